"""Every message that docs/troubleshooting.md quotes is one that the program can print."""

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SOURCES = sorted((CHECKOUT / "nnunet_rw").rglob("*.py"))
OF_NNUNET = {"Could not find requested nnunet trainer"}


def texts(source):
    """The strings of a module, adjacent literals joined, {} for every expression within; no docstrings."""
    tree = ast.parse(source)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            inner |= {id(part) for part in node.values}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def quoted(document):
    """The messages in the first column of its tables."""
    rows = re.findall(r"^\| (?!\*\*|message|---)(.*?) \|", document, re.MULTILINE)
    return [message for row in rows for message in re.findall(r"`(.+?)`", row)]


def is_printed(message, printed):
    pattern = re.compile(".*".join(map(re.escape, message.split("..."))))
    return any(map(pattern.search, printed))


MESSAGES = quoted((CHECKOUT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
PRINTED = [text for path in SOURCES for text in texts(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("message", [message for message in MESSAGES if message not in OF_NNUNET])
def test_a_quoted_message_is_printed(message):
    assert is_printed(message, PRINTED)


def test_rows_are_read():
    assert quoted("| message | why |\n| --- | --- |\n| **Maps** | |\n| `No ...`, `a` | `b` |\n") == ["No ...", "a"]
    assert len(MESSAGES) > 25


def test_messages_are_joined_across_lines_and_expressions():
    source = 'def f():\n    """No map."""\n    g(f"No {kind} map "\n        f"for case {case!r}.", "other " "text")\n'
    assert list(texts(source)) == ["No {} map for case {}.", "other text"]
    assert is_printed("No ... map for case", texts(source))
    assert not is_printed("No map", texts(source))
