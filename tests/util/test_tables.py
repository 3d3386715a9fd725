import json
import math

import numpy as np
import pytest

from nnunet_rw.util.tables import (
    Cell,
    Table,
    counted,
    csv_text,
    json_value,
    latex_escape,
    number,
    p_value,
    signed,
    signed_interval,
    spread,
    text_table,
    with_ends,
    with_interval,
)

NAN = math.nan


@pytest.fixture
def table():
    first = {"trainer": "a|b", "n": 3, "Dice": with_interval(0.5, (0.25, 0.75), 2)}
    return Table.of("Means", [first, {"trainer": "c_d", "n": 4, "Dice": "-"}], "means", ["A note."])


def test_cells_by_hand():
    assert str(number(-0.0004, 3)) == "0.000"
    assert str(number(math.inf, 3)) == "-"
    assert str(with_ends(0.61249, 0.58, 0.64, 3)) == "0.612 [0.580, 0.640]"
    assert str(with_ends(0.5, NAN, NAN, 1)) == "0.5 [too few]"
    assert str(with_ends(NAN, NAN, NAN, 1)) == "-"
    assert str(with_interval(0.5, (0.5, 0.5), 1)) == str(with_ends(0.5, 0.5, 0.5, 1)) == "0.5"
    assert str(counted(with_interval(0.5, (0.4, 0.6), 1), 20)) == "0.5 [0.4, 0.6] (n = 20)"
    assert str(counted(number(NAN, 1), 0)) == "-"
    assert [str(spread(values, 1)) for values in ((0.6, 0.4, NAN), (0.6, NAN))] == ["0.4 to 0.6", "-"]
    assert [str(p_value(p)) for p in (0.0204, 0.0011, 0.0004, NAN)] == ["0.020", "0.001", "<0.001", "-"]


def test_signs_by_hand():
    assert [signed(value, 2) for value in (0.125, -0.5, 0.004, -0.004, 0.0, NAN, math.inf)] == [
        *("+0.12", "-0.50", "0.00", "0.00", "0.00", "-", "-")
    ]
    assert signed_interval(0.0126, (-0.0004, 0.02), 3) == "+0.013 [0.000, +0.020]"
    assert signed_interval(0.5, (0.5, 0.5)) == "+0.500"
    assert signed_interval(0.5, (NAN, NAN)) == "+0.500 [too few]"
    assert signed_interval(NAN, (NAN, NAN)) == "-"


def test_cells_keep_their_numbers_and_what_stands_beside():
    cell = counted(with_interval(0.61249, (0.58, 0.64)), 20)
    assert (cell.text, cell.beside, cell.value) == ("0.612", ("[0.580, 0.640]", "(n = 20)"), 0.61249)
    assert p_value(0.0004).value == 0.0004
    assert spread((0.6, 0.4), 1).value == 0.4
    # A whole number stands for itself.
    assert [cell.value for cell in Table.of("", [{"n": 3}]).rows[0]] == [3]


def test_words_of_a_column_can_be_others(table):
    named = table.with_texts(table.header[0], {"a|b": "A"})
    assert [row[0].text for row in named.rows][:1] == ["A"]
    assert [row[1:] for row in named.rows] == [row[1:] for row in table.rows]
    assert table.with_texts("no such", {"a|b": "A"}) == table


def test_columns_can_be_left_out_moved_and_turned(table):
    assert table.records[0] == {"trainer": "a|b", "n": "3", "Dice": "0.50 [0.25, 0.75]"}
    assert table.without({"n", "absent"}).texts == (("a|b", "0.50 [0.25, 0.75]"), ("c_d", "-"))
    assert table.first("Dice").header == ("Dice", "trainer", "n")
    turned = table.turned()
    assert turned.header == ("trainer", "a|b", "c_d")
    assert turned.texts == (("n", "3", "4"), ("Dice", "0.50 [0.25, 0.75]", "-"))
    # Only where no row has a value.
    assert table.without_empty({"Dice"}) == table
    assert Table.of("", [{"a": "-", "b": "-"}]).without_empty({"b"}).header == ("a",)
    assert Table.of("", []).without_empty({"b"}).turned().rows == ()


def test_markdown_by_hand(table):
    # A line's end would end the row.
    best = Table("", ("a", "b"), ((Cell("<1\n*"), Cell("2", best=True)),))
    assert best.markdown() == "| a | b |\n| --- | --- |\n| \\<1 \\* | **2** |"
    assert table.markdown().splitlines()[2] == "| a\\|b | 3 | 0.50 [0.25, 0.75] |"


def test_latex_by_hand():
    best = Table("", ("a", "b"), ((Cell("[1]"), Cell("2 %", best=True)),))
    rows = [r"a & b \\", r"{[1]} & \textbf{2 \%} \\"]
    lines = best.latex().splitlines()
    assert lines == [r"\begin{tabular}{ll}", r"\hline", rows[0], r"\hline", rows[1], r"\hline", r"\end{tabular}"]
    lines = best.latex((r"\toprule", r"\midrule", r"\bottomrule"), "lp{1cm}").splitlines()
    assert lines[:2] + lines[3:4] == [r"\begin{tabular}{lp{1cm}}", r"\toprule", r"\midrule"]


def test_numbers_that_are_none_are_empty_in_csv_and_null_in_json():
    assert csv_text(["a", "b"], [[0.1, NAN], [None, math.inf], ["x,y", 2]]) == 'a,b\n0.1,\n,inf\n"x,y",2\n'
    assert json_value({1: (NAN, -math.inf, 2), "b": [{"c": 0.5}]}) == {"1": [None, None, 2], "b": [{"c": 0.5}]}
    of_numpy = json_value([np.int64(2), np.float32("nan"), np.bool_(True)])
    assert json.dumps(of_numpy) == "[2, null, true]"


def test_text_by_hand():
    rows = [("a", "long cell"), ("fifteen letters", "")]
    assert text_table(("first", "b"), rows) == "\n".join(
        [
            "first            b",
            "---------------  ---------",
            "a                long cell",
            "fifteen letters",
        ]
    )
    assert text_table(("first", "b"), []) == "first  b\n-----  -"


def test_latex_escape():
    assert latex_escape("RW_new 95 % <0.001 a&b #1 {x} ~^") == (
        r"RW\_new 95 \% \textless{}0.001 a\&b \#1 \{x\} \textasciitilde{}\textasciicircum{}"
    )
    assert latex_escape("\\") == r"\textbackslash{}"
    # A minus sign before a number, no hyphen within words.
    assert latex_escape("-0.1 [-0.2, 0.3] re-run seed-1 -") == "$-$0.1 [$-$0.2, 0.3] re-run seed-1 -"
