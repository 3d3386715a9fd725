import struct
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from overlay_sources import IMAGE, LARGE, NOTHING, SMALL, SPACING_MM, volume, write_source

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.evaluate import evaluate
from nnunet_rw.pictures.gallery import write_gallery

FAST = EvaluationSettings(fast=True)


def texts(figure):
    return [axis.get_title(loc="left") or axis.get_title() for axis in figure.axes if axis.images]


def panels(figure):
    return [axis for axis in figure.axes if axis.images]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()] if figure.legends else []


def is_drawn(path, least=400):
    """A PNG of some size with more than its ground on it."""
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return min(width, height) > least and len(np.unique(plt.imread(path).reshape(-1, 4), axis=0)) > 20


@pytest.mark.parametrize("with_images", [True, False])
def test_gallery(tmp_path, drawn, with_images):
    cases = {
        "a": (volume(a=LARGE, b=SMALL), volume(a=np.s_[1, 2:8, 10:18])),  # Dice 2 * 30 / (62 + 48)
        "b": (volume(a=SMALL), volume(a=SMALL, b=LARGE)),  # Dice 2 * 2 / (2 + 62)
        "c": (NOTHING, NOTHING),
    }
    source = write_source(tmp_path, cases, {case: IMAGE for case in cases} if with_images else None)
    written = write_gallery(source, FAST, evaluate(source, FAST), tmp_path / "new" / "gallery")
    assert [path.name for path in written] == ["worst_cases_lesion.png", "missed_lesions_lesion.png"]
    assert is_drawn(written[0])
    assert is_drawn(written[1], least=200)
    worst, missed = drawn
    titles = [
        "b, slice 1\nDice 0.06, recall 1.00 (1 of 1), 1 false positive",
        "a, slice 1\nDice 0.55, recall 0.50 (1 of 2), 0 false positives",
    ]
    assert [text for text in texts(worst) if text] == titles
    # With images a panel without overlay stands beside each: it has no lines.
    lines = [sum(len(line.get_segments()) for line in panel.collections) for panel in panels(worst)]
    assert [number > 0 for number in lines] == ([False, True] * 2 if with_images else [True] * 2)
    for panel in panels(worst):
        assert panel.get_aspect() == SPACING_MM[1] / SPACING_MM[2]
        assert (panel.images[0].get_array().std() > 0.01) == with_images
    assert legend(worst) == ["Reference, found", "Prediction of a found lesion", "Prediction, false positive"]
    # Only the small lesion of case a is missed: 8 mm3, one of two.
    assert texts(missed) == ["a\n8 mm³"]
    assert legend(missed) == ["Reference, missed"]
    words = "\n".join(text.get_text() for axis in missed.axes for text in axis.texts)
    assert words == "below 10 mm³\n1 of 2 missed\n\npictures 48 mm wide\n100 to 1000 mm³\n0 of 1 missed"
    # In the middle of a square of 24 pixels of 2 mm: 96 of 0.5 mm.
    (panel,) = panels(missed)
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    assert (right - left, bottom - top) == pytest.approx((96, 24))
    segments = np.concatenate([line.get_segments() for line in panel.collections if len(line.get_segments())])
    middle = (segments.min((0, 1)) + segments.max((0, 1))) / 2
    assert middle == pytest.approx([(left + right) / 2, (top + bottom) / 2])


def test_gallery_in_two_dimensions(tmp_path, drawn):
    reference, prediction = volume(a=LARGE, b=np.s_[1, 0, 30])[1], volume(a=LARGE)[1]
    source = write_source(tmp_path, {"a": (reference, prediction)}, {"a": IMAGE[1]})
    for path in write_gallery(source, FAST, evaluate(source, FAST), tmp_path):
        assert is_drawn(path, least=200)
    worst, missed = drawn
    assert texts(worst)[0] == "a\nDice 0.99, recall 0.50 (1 of 2), 0 false positives"
    assert texts(missed) == ["a\n1 mm²"]
    # Where no file tells a spacing.
    photographs = [replace(evaluation, spacing_mm=(1.0, 1.0)) for evaluation in evaluate(source, FAST)]
    write_gallery(source, FAST, photographs, tmp_path)
    assert texts(drawn[-1]) == ["a\n1 pixels"]


def test_gallery_of_cases_without_lesions_says_so(tmp_path, drawn):
    source = write_source(tmp_path, {"a": (NOTHING, NOTHING)}, {"a": IMAGE})
    written = write_gallery(source, FAST, evaluate(source, FAST), tmp_path)
    assert [len(np.unique(plt.imread(path))) > 5 for path in written] == [True, True]
    said = [[text.get_text() for axis in figure.axes for text in axis.texts] for figure in drawn]
    assert said == [["No case has a lesion or a false positive."], ["No case has a lesion."]]


def test_false_positives_of_a_case_without_lesion_are_shown(tmp_path, drawn):
    source = write_source(tmp_path, {"a_case_of_a_name_longer_than_a_panel": (NOTHING, volume(a=LARGE, b=SMALL))})
    write_gallery(source, FAST, evaluate(source, FAST), tmp_path)
    title = "a_case_of_a_name_longer_than_a_panel, slice 1\nDice 0.00, no lesion, 2 false positives"
    assert texts(drawn[0]) == [title]


def test_cases_without_their_names(tmp_path, drawn):
    found, missed = (volume(a=LARGE), volume(a=LARGE)), (volume(a=LARGE, b=SMALL), volume(a=LARGE))
    source = write_source(tmp_path, {"hidden_a": found, "hidden_b": missed})
    write_gallery(source, FAST, evaluate(source, FAST), tmp_path, show_case_ids=False)
    worst, lesions = drawn
    # Numbered by name, not by the order shown, which begins with the worst.
    assert [text.split(",")[0] for text in texts(worst) if text] == ["case 2", "case 1"]
    assert texts(lesions) == ["case 2\n8 mm³"]
    words = [text.get_text() for figure in drawn for text in figure.findobj(plt.Text)]
    assert not [word for word in words if "hidden" in word]


def test_a_gallery_a_class(tmp_path):
    labels = {"background": 0, "large": 1, "small": 2}
    reference = volume(a=LARGE) + 2 * volume(a=SMALL)
    source = write_source(tmp_path, {"a": (reference, NOTHING)}, {"a": IMAGE}, labels)
    written = write_gallery(source, FAST, evaluate(source, FAST), tmp_path / "gallery", worst=0)
    assert [path.name for path in written] == ["missed_lesions_large.png", "missed_lesions_small.png"]
    assert all(is_drawn(path, least=200) for path in written)
