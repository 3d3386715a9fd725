"""The picture and the tables of an audit."""

import math
from dataclasses import replace

import numpy as np
import pytest

from nnunet_rw.audit.audit import AUDITED, Audit, Figures, GradientShares, Recommendation, recommend
from nnunet_rw.audit.lesions import Lesions, SharedLesions, summarise_label, summarise_sizes
from nnunet_rw.audit.report import SIZE_COLOURS, audit_text, draw_audit, share_text


def audit_of(cases, labels=("lesion",), by_size=(0.01, 0.09, 0.1, 0.8)):
    """`cases` are lists of (label, voxels of 1 mm3)."""
    lesions = tuple(
        Lesions(
            np.array([label for label, _ in case], np.int64),
            np.array([voxels for _, voxels in case], np.int64),
            np.array([voxels // 2 for _, voxels in case], np.int64),
            np.array([voxels for _, voxels in case], np.float64),
        )
        for case in cases
    )
    return Audit(
        dataset="Dataset901_Raw",
        folder="folder",
        cases=tuple(f"case_{number}" for number in range(len(cases))),
        lesions=lesions,
        label_values=tuple(str(number + 1) for number in range(len(labels))),
        labels=tuple(summarise_label(name, index, lesions) for index, name in enumerate(labels)),
        sizes=summarise_sizes(lesions),
        gradients=tuple(GradientShares(trainer, loss, by_size, 0.05) for trainer, loss in AUDITED.items()),
        num_patches=200,
        recommendation=Recommendation("RWTrainer_IWDiceCE", "most lesions are below 100 mm3."),
        shared=SharedLesions(0, (), ()),
    )


SMALL_AND_LARGE = [[(0, 4), (0, 50), (0, 4000)], [(0, 8)], []]


def words(line):
    return line.split()


def test_tables():
    text = audit_text(audit_of(SMALL_AND_LARGE))
    lines = text.splitlines()
    rows = list(map(words, lines))
    assert lines[0] == "Dataset901_Raw: 4 lesions in 3 cases of folder"
    # Lesions a case: 3, 1, 0. The largest tenth is one lesion.
    assert words("lesion 2 4 1 (0 to 3) 29 0.74 98% 50%") in rows
    assert words("below 10 mm3 2 50% 0.3%") in rows
    assert words("100 to 1000 mm3 0 0% 0%") in rows
    assert sum(line.startswith("RWTrainer") or line.startswith("nnUNetTrainer") for line in lines) == len(AUDITED)
    assert lines[-1] == "Recommended: RWTrainer_IWDiceCE, because most lesions are below 100 mm3."


def test_sizes_of_images_are_in_pixels():
    text = audit_text(replace(audit_of(SMALL_AND_LARGE), size_unit="pixels", recommendation=recommendation("pixels")))
    assert words("100 to 1000 pixels 0 0% 0%") in list(map(words, text.splitlines()))
    assert "median pixels" in text
    assert "mm3" not in text


def recommendation(unit):
    return recommend(Figures(5, 0.5, 0.1, 0.1, 0.5, 0.5, 0.5), unit)


def test_what_is_undefined_is_a_dash():
    audit = audit_of([[(0, 4)]], ("core", "edema"), (math.nan,) * 4)
    rows = list(map(words, audit_text(audit).splitlines()))
    assert words("edema 0 0 0 (0 to 0) - - - -") in rows
    assert [row[-5:] for row in rows if row[:1] == ["RWTrainer"]] == [words("- - - - 5.0%")]


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0%"), (0.004, "0.4%"), (0.0994, "9.9%"), (0.0996, "10%"), (1.0, "100%"), (math.nan, "-")]
)
def test_shares(share, text):
    assert share_text(share) == text


def test_colours_are_size_classes(drawn, tmp_path):
    draw_audit(audit_of(SMALL_AND_LARGE), tmp_path / "audit.png")
    (figure,) = drawn
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][0::3] == ["below 10 mm³", "from 1000 mm³"]
    sizes, lorenz, cases, shares, of_lesions = figure.axes
    # Bars of the histogram hold the lesions, those of cases too, those of shares fill the row.
    assert sum(bar.get_height() for bar in sizes.patches) == 4
    assert sum(bar.get_height() for bar in cases.patches) == 4
    rows = 2 + len(AUDITED)
    widths = np.array([bar.get_width() for bar in shares.patches]).reshape(len(SIZE_COLOURS), rows)
    np.testing.assert_allclose(widths.sum(0), 1)
    np.testing.assert_allclose(widths[:, 2], (0.01, 0.09, 0.1, 0.8))
    np.testing.assert_allclose(widths[:, 0], (0.5, 0.25, 0, 0.25))
    bold = [text.get_text() for text in shares.texts if text.get_weight() == "bold"]
    assert bold == ["RWTrainer_IWDiceCE"]
    # From the origin to all voxels of all lesions.
    curve = lorenz.lines[1].get_xydata()
    np.testing.assert_allclose(curve, [(0, 0), (0.25, 4 / 4062), (0.5, 12 / 4062), (0.75, 62 / 4062), (1, 1)])
    assert len(of_lesions.patches) == 2 * len(AUDITED)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "audit",
    [
        audit_of([[(0, 7)]]),
        audit_of([[(0, 7), (1, 70)], []], ("core", "edema", "necrosis")),
        audit_of([[(label, 3 + label) for label in range(7)]], tuple("abcdefg")),
        audit_of(SMALL_AND_LARGE * 100, by_size=(math.nan,) * 4),
    ],
    ids=["one lesion", "an absent label", "many labels", "no shares"],
)
def test_every_audit_is_drawn(audit, tmp_path):
    draw_audit(audit, tmp_path / "audit.png")
    assert (tmp_path / "audit.png").read_bytes().startswith(b"\x89PNG")
    assert audit_text(audit)
