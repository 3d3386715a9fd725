import csv
import json
import re

import pytest
from evaluation_folders import write_evaluation

from nnunet_rw.evaluation.comparison.compare import compare_evaluations
from nnunet_rw.evaluation.comparison.tables import latex_text, markdown_text, write_comparison

NAMES = [f"case_{number}" for number in range(8)]


@pytest.fixture
def comparison(tmp_path):
    base, new = (
        write_evaluation(
            tmp_path / name,
            {case: {"dice": dice, "hd95_mm": 2.5} for case in NAMES},
            [("case_0", 4.0, hit, hit)],
            name=name,
        )
        for name, dice, hit in (("base", 0.5, 0), ("RW_new|x", 0.25, 1))
    )
    return compare_evaluations([base, new], metrics=("dice", "hd95_mm", "nsd"), resamples=100)


@pytest.fixture
def files(comparison, tmp_path):
    return {path.name: path for path in write_comparison(comparison, tmp_path / "new" / "folder")}


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_files(files, tmp_path):
    names = [
        "comparison.csv",
        "recall_by_size.csv",
        "ranking.csv",
        "comparison.json",
        "comparison.md",
        "comparison.tex",
    ]
    assert list(files) == names
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == set(names)


def test_csv(files):
    dice, _, nsd = rows_of(files["comparison.csv"])
    assert (dice["metric"], dice["challenger"], dice["n"]) == ("dice", "RW_new|x", "8")
    assert [float(dice[name]) for name in ("difference", "low", "high", "p")] == [-0.25, -0.25, -0.25, 2 / 256]
    assert (dice["losses"], dice["verdict"], dice["noise"]) == ("8", "worse", "")
    assert (nsd["n"], nsd["difference"], nsd["p_holm"]) == ("0", "", "")
    sizes = rows_of(files["recall_by_size.csv"])
    assert [row["size_to_mm3"] for row in sizes] == ["10.0", "100.0", "1000.0", "inf", "inf"]
    assert (sizes[0]["lesions"], sizes[0]["difference"], sizes[0]["low"]) == ("1", "1.0", "")
    ranking = rows_of(files["ranking.csv"])
    assert [(row["rule"], row["trainer"], row["rank"]) for row in ranking[:2]] == [
        ("hit", "base", "2"),
        ("hit", "RW_new|x", "1"),
    ]


def test_json_is_strict_and_names_the_family(files):
    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads(files["comparison.json"].read_text(), parse_constant=refuse)
    assert content["family"] == {
        "metrics": ["dice", "hd95_mm", "nsd"],
        "challengers": ["RW_new|x"],
        "labels": ["1"],
        "made": 2,
    }
    assert content["metrics"][0]["difference"] == -0.25
    assert content["metrics"][2]["p"] is None
    assert content["sizes"][3]["size_to_mm3"] is None
    assert content["settings"]["connectivity"] == 26


def test_markdown_tables_are_whole(comparison):
    text = markdown_text(comparison)
    assert text.count("\n## ") + text.startswith("## ") == 3
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "RW_new\\|x" in text
    assert "| dice | RW_new\\|x | 8 | 0 | 0.500 | 0.250 | -0.250 |" in text
    assert "\n- p: Wilcoxon" in text


def test_latex_tables_are_whole_and_escaped(comparison):
    text = latex_text(comparison)
    tables = re.findall(r"\\begin\{tabular\}\{(l+)\}\n(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert len(tables) == 3
    for columns, body in tables:
        rows = [line for line in body.splitlines() if line != r"\hline"]
        assert body.count(r"\hline") == 3
        assert {row.count(" & ") + 1 for row in rows} == {len(columns)}
        assert all(row.endswith(r" \\") for row in rows)
        assert not re.search(r"(?<!\\)_", body)
    assert r"hd95\_mm" in text
    assert " & $-$0.250 & " in text
    assert "toprule" not in text
