"""The file that says which cases are of one patient."""

import pytest

from nnunet_rw.evaluation.comparison.groups import cases_apart, folds_note, folds_or_parts, read_groups, units_of


@pytest.fixture
def write(tmp_path):
    def make(text):
        path = tmp_path / "groups.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return make


def test_patients_by_case(write):
    # Columns in any order, others beside them, a byte order mark as spreadsheets write it.
    groups = read_groups(write("\ufeffpatient,case,age\np1,a,30\np1, b ,30\np2,c,\n"))
    assert groups == {"a": "p1", "b": "p1", "c": "p2"}
    assert units_of("cab", groups) == ["p2", "p1", "p1"]
    assert units_of("cab", None) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("case,subject\na,1\n", "has no column 'patient'. Expected the columns case and patient"),
        ("case,patient\na,1\na,2\n", "line 3: case 'a' is there twice"),
        ("case,patient\na,1\nb\n", "line 3: expected a case and its patient, but got 'b' and ''"),
        ("case,patient\n", "names no case"),
        ("", "has no column 'case'"),
    ],
)
def test_refuses(write, text, problem):
    with pytest.raises(ValueError, match=rf"groups.csv.*{problem}"):
        read_groups(write(text))


def test_no_file(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"No .*none.csv. Expected a CSV file with the columns case and patient"
    ):
        read_groups(tmp_path / "none.csv")


def test_a_case_without_patient():
    with pytest.raises(ValueError, match=r"No patient for case 'b' \(2 of 3 cases without one\)"):
        units_of("abc", {"a": "p1"})


def test_cases_apart_share_neither_fold_nor_patient():
    folds, units = list("001122"), list("abacdd")
    assert [cases_apart(folds, units, fold).nonzero()[0].tolist() for fold in "012"] == [
        [3, 4, 5],
        [1, 4, 5],
        [0, 1, 2, 3],
    ]
    assert folds_or_parts(folds, units) == folds
    # Every patient has a case in fold 0: nothing is left to choose on, and patients are split instead.
    parts = folds_or_parts(list("0101"), list("aabb"))
    assert sorted(set(parts)) == ["split_0", "split_1"]
    assert parts[0] == parts[1] != parts[2] == parts[3]


def test_patients_in_several_folds_are_told():
    assert folds_note(list("0011"), list("aabb")) == folds_note(["", ""], list("ab")) == ()
    (note,) = folds_note(list("0011"), list("abac"))
    assert note.startswith(
        "1 of 3 patients are in several folds, so that networks were trained on patients whose other"
    )
    assert note.endswith("train again: nnunet-rw splits -d DATASET --groups FILE")
