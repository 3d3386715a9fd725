"""`nnunet-rw compare`: one evaluation against others."""

import json

import pytest
from evaluation_folders import write_evaluation

NAMES = [f"case_{number}" for number in range(8)]


@pytest.fixture
def evaluations(tmp_path):
    """Folders of a baseline, a better trainer and another seed of the baseline."""
    return [
        write_evaluation(
            tmp_path / name,
            {case: {"dice": dice, "nsd": 0.5, "n_lesions": 1, "n_hit": hit} for case in NAMES},
            [(case, volume, hit, hit) for case, volume in zip(NAMES, range(4, 20, 2), strict=True)],
            [(case, 8.0, 1, 1) for case in NAMES],
            name=name,
        )
        for name, dice, hit in (("base", 0.5, 0), ("RW_new", 0.75, 1), ("seed_1", 0.52, 0))
    ]


def test_compare_prints_tables(succeeds, evaluations):
    text = succeeds("compare", *evaluations[:2])
    assert text.startswith("Against base, 8 cases\n")
    dice = next(line for line in text.splitlines() if line.startswith("dice"))
    assert " ".join(dice.split()) == "dice RW_new 8 0 0.500 0.750 0.250 0.023 8/0/0 better"
    assert "7 metrics x 1 challenger x 1 label = 7 tests, of which 3 could be made" in text
    assert "26-connected" in text


def test_compare_takes_metrics_edges_seeds_and_a_folder(succeeds, evaluations, tmp_path):
    base, new, seed = evaluations
    out = tmp_path / "compared"
    options = ("--baseline-seeds", seed, "--metrics", "nsd", "dice", "--edges", 0, 8, "inf", "-o", out, "--seed", 3)
    lines = succeeds("compare", base, new, *options).splitlines()
    names = [
        "comparison.csv",
        "recall_by_size.csv",
        "ranking.csv",
        "comparison.json",
        "comparison.md",
        "comparison.tex",
    ]
    assert lines[-7:] == ["", *(str(out / name) for name in names)]
    content = json.loads((out / "comparison.json").read_text())
    assert [(row["metric"], row["verdict"]) for row in content["metrics"]] == [
        ("nsd", "within noise"),
        ("dice", "better"),
    ]
    assert content["metrics"][1]["noise"] == pytest.approx(0.02)
    # 4 and 6 mm3 are below the inner edge; then all.
    assert [row["lesions"] for row in content["sizes"]] == [2, 6, 8]
    assert "8 and more" in (out / "comparison.md").read_text()


def test_compare_takes_seeds_of_challengers_and_patients(succeeds, fails, evaluations, tmp_path):
    base, new, seed = evaluations
    groups = tmp_path / "groups.csv"
    groups.write_text("\n".join(["case,patient", *(f"{case},{case[-1]}" for case in NAMES)]) + "\n")
    text = succeeds("compare", base, new, "--challenger-seeds", seed, "--groups", groups, "--metrics", "dice")
    # (0.75 + 0.52) / 2 less 0.5; every patient has one case.
    dice = next(line for line in text.splitlines() if line.startswith("dice"))
    assert " ".join(dice.split()) == "dice RW_new 8 0 0.500 0.635 0.135 0.008 8/0/0 better"
    assert "Every case is the mean over a trainer's seeds (base 1, RW_new 2)" in text
    assert "studentised bootstrap intervals over patients" in text
    groups.write_text("\n".join(["case,patient", *(f"{case},{number // 2}" for number, case in enumerate(NAMES))]))
    text = succeeds("compare", base, new, "--groups", groups, "--metrics", "dice")
    assert "0.250 [too few]" in text
    assert "Cases are of 4 patients" in text
    assert "No p for 4 patients; with fewer than 8 nothing is tested." in text
    groups.write_text("case,patient\ncase_0,1\n")
    message = fails("compare", base, new, "--groups", groups)
    assert message.startswith("No patient for case 'case_1' (7 of 8 cases without one).")


def test_compare_without_folder_writes_nothing(succeeds, evaluations, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    succeeds("compare", *evaluations[:2])
    assert list((tmp_path / "here").iterdir()) == []


def test_compare_refuses(fails, evaluations, tmp_path):
    base, new, _ = evaluations
    assert fails("compare", base) == ("Expected at least two evaluations to compare, the baseline first, but got 1.")
    message = fails("compare", base, tmp_path / "none")
    assert message.startswith(f"No {tmp_path / 'none' / 'summary.json'}. Run: nnunet-rw evaluate")
    assert "Expected metrics out of dice, hd95_mm" in fails("compare", base, new, "--metrics", "dize")
    assert "ascending edges in mm3, but got 10.0, 0.0." in fails("compare", base, new, "--edges", 10, 0)

    fewer = write_evaluation(tmp_path / "fewer", {case: {} for case in NAMES[:5]})
    message = fails("compare", base, fewer, "-o", tmp_path / "out")
    assert f"but got 3 only in {base} (case_5, case_6, case_7), 5 in both" in message
    assert not (tmp_path / "out").exists()

    table = new / "cases.csv"
    table.write_text(table.read_text().replace("assd_mm", "asd_mm"))
    assert fails("compare", base, new).startswith(f"{table} has no column 'assd_mm'. Run: nnunet-rw evaluate")


def test_settings_of_evaluating_are_not_taken_for_those_of_evaluations(fails, evaluations):
    line = fails("compare", *evaluations[:2], "--min-volume", 100, "--tolerance", 5)
    assert line == "--min-volume, --tolerance: of models (-d, -tr); evaluations have been made with what they have."


def test_tables_are_written_before_any_is_printed(fails, evaluations, tmp_path, monkeypatch):
    def broken(comparison):
        raise ValueError("nobody reads it")

    monkeypatch.setattr("nnunet_rw.evaluation.comparison.tables.terminal_text", broken)
    assert fails("compare", *evaluations[:2], "-o", tmp_path / "compared") == "nobody reads it"
    assert (tmp_path / "compared" / "comparison.json").is_file()
