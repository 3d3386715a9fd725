import csv
import re
from dataclasses import replace

import pytest
from benchmark_results import CASES

from nnunet_rw.benchmark.report.report import FORMATS, write_report
from nnunet_rw.benchmark.results import Unfinished

# What remains of a line of LaTeX without its commands and escaped signs must not hold one of these.
SPECIAL = re.compile(r"[_&%#$^~\\]")
ESCAPED = re.compile(
    r"\\(?:[_&%#${}]|textbackslash\{\}|textasciitilde\{\}|textasciicircum\{\}|textless\{\}|textgreater\{\})"
)
COMMANDS = re.compile(
    # A citation has a tie before it.
    r"~?\\cite\{[^}]*\}|\\(?:label|input|bibliography|bibliographystyle)\{[^}]*\}|\\usepackage(?:\[[^]]*\])?\{[^}]*\}"
    r"|\\(?:begin|end)\{\w+\}|\\(?:toprule|midrule|bottomrule|centering|small|item|textwidth)\b"
    r"|\\(?:textbf|texttt|caption|subsection\*|documentclass|resizebox)(?=\{)|p\{0\.\d+\\textwidth\}"
)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    evil = replace(results.tasks[0], description=r"50 % of A&B_C #1 {x} ~ ^ \ $5 <y>")
    changed = replace(results, tasks=(evil, *results.tasks[1:]))
    return {name: write_report(changed, folder / name / "new", name) for name in ("md", "latex", "csv")}


def test_unknown_format(results, tmp_path):
    with pytest.raises(ValueError, match="one of md, latex, csv, but got 'pdf'"):
        write_report(results, tmp_path, "pdf")


def test_files(written):
    assert [path.name for path in written["md"]] == ["report.md"]
    names = [path.name for path in written["latex"]]
    assert names[-4:] == ["provenance.tex", "methods.tex", "references.bib", "report.tex"]
    assert "Dataset011_MSLesion_equal_false_positives.tex" in names
    assert [path.stem for path in written["csv"]] == [
        *("leaderboard", "seeds", "differences", "sizes", "places", "equal_false_positives", "froc_points"),
        *("resources", "epochs", "provenance"),
    ]
    assert all(path.is_file() for paths in written.values() for path in paths)


def test_no_case_is_named(written, results):
    for paths in written.values():
        for path in paths:
            text = path.read_text()
            assert not any(case in text for case in CASES), path
            assert str(results.folder) not in text, path


def test_errors_are_not_repeated(results, tmp_path):
    job = Unfinished("evaluate/Task11_MSLesion/RWTrainer/seed0", "failed", "Case 'patient_7' is damaged")
    (path,) = write_report(replace(results, unfinished=(job,)), tmp_path, "md")
    assert "- evaluate/Task11_MSLesion/RWTrainer/seed0: failed\n" in path.read_text()
    assert "patient_7" not in path.read_text()


def test_case_ids_on_request(results, tmp_path):
    paths = write_report(results, tmp_path, "csv", show_case_ids=True)
    assert paths[-1].name == "cases.csv"
    rows = rows_of(paths[-1])
    # 12 cases: two labels with six evaluations, one label with five.
    assert len(rows) == 12 * (2 * 6 + 5)
    assert rows[0] | {"dice": "0.7"} == rows[0]
    assert (rows[0]["case"], rows[0]["trainer"], rows[0]["seed"]) == ("case_0", "nnUNetTrainer", "0")


def test_markdown_tables_are_whole(written):
    text = written["md"][0].read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert len(tables) == 6 + 7 + 1
    for table in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert "| RWTrainer\\_IWDiceCE" not in text
    assert "**0.848 [" in text
    assert "\n## Unfinished\n\n- train/Task11_MSLesion/RWTrainer_IWDiceCE/seed1/fold1" in text
    assert "## Warnings" not in text
    assert text.count("Bold: the best value") == 1
    assert "## Methods" in text
    assert "```bibtex\n@article{isensee2021nnunet" in text


def test_latex_is_escaped(written):
    for path in written["latex"]:
        if path.suffix == ".bib":
            continue
        for line in path.read_text().splitlines():
            if line.startswith("% "):
                continue
            rest = re.sub(r" \\\\$|^\}$|%$", "", line)
            rest = COMMANDS.sub("", ESCAPED.sub("", rest)).replace("$-$", "").replace(" & ", " ")
            assert not SPECIAL.search(rest), (path.name, line)


def test_latex_tables_are_whole(written):
    tables = [path for path in written["latex"] if "\\begin{tabular}" in path.read_text()]
    assert len(tables) == 6 + 7 + 1
    for path in tables:
        text = path.read_text()
        columns, body = re.search(r"\\begin\{tabular\}\{(.*)\}\n(.*)\\end\{tabular\}", text, re.DOTALL).groups()
        rows = [line for line in body.splitlines() if line.endswith(r" \\")]
        width = len(re.findall(r"l|p\{[^}]*\}", columns))
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {width}
        assert [body.count(rule) for rule in ("\\toprule", "\\midrule", "\\bottomrule")] == [1, 1, 1]
        for environment in ("table", "tabular"):
            assert text.count(f"\\begin{{{environment}}}") == text.count(f"\\end{{{environment}}}") == 1
    report = next(path for path in written["latex"] if path.name == "report.tex").read_text()
    assert set(re.findall(r"\\input\{(.*)\}", report)) == {
        path.name for path in [*tables, path_named(written, "methods.tex")]
    }


def path_named(written, name):
    return next(path for paths in written.values() for path in paths if path.name == name)


def test_csv_is_unrounded_and_tidy(written):
    leaderboard = rows_of(path_named(written, "leaderboard.csv"))
    (recall,) = [
        row
        for row in leaderboard
        if (row["task"], row["trainer"], row["metric"]) == ("Task11_MSLesion", "RWTrainer", "recall")
    ]
    assert float(recall["value"]) == 24 / 33
    assert recall["n"] == "33"
    # Six rows of the first task, three of the second, nine metrics.
    assert len(leaderboard) == (6 + 3) * 9
    differences = rows_of(path_named(written, "differences.csv"))
    assert len(differences) == 7 * 2 * (2 + 1)
    assert float(differences[0]["difference"]) == pytest.approx(0.05)
    epochs = rows_of(path_named(written, "epochs.csv"))
    # 24 trainings of three epochs, one of which lacks the last.
    assert len(epochs) == 24 * 3 - 1
    assert (epochs[0]["seconds"], epochs[0]["peak_gpu_mib"]) == ("14.0", "")
    points = rows_of(path_named(written, "froc_points.csv"))
    assert len(points) == 4 * 5
    assert (points[0]["threshold"], points[0]["recall"]) == ("inf", "0.0")
    assert len(rows_of(path_named(written, "sizes.csv"))) == 5 * 2 * 3
    assert [row["seed"] for row in rows_of(path_named(written, "seeds.csv"))[-3:]] == ["0", "1", "0"]


def test_a_benchmark_that_has_only_begun(unevaluated, tmp_path):
    for name in FORMATS:
        paths = write_report(unevaluated, tmp_path / name, name)
        assert all(path.is_file() for path in paths)
    assert "Nothing" not in (tmp_path / "md" / "report.md").read_text()
