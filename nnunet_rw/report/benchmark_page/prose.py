"""The little Markdown of the methods as HTML: headings, lists, paragraphs, code and emphasis."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

_HEADING = re.compile(r"(#+) +(.*)")
# What stands between backticks, or between two asterisks.
_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


def markdown_html(text: str, level: int) -> Markup:
    """HTML of the text, all its signs escaped.

    Parameters
    ----------
    text : str
        Blocks between blank lines.
    level : int
        Of all headings, as in ``<h3>``.
    """
    return Markup("\n").join(_block(block.strip(), level) for block in re.split(r"\n\s*\n", text) if block.strip())


def _block(block: str, level: int) -> Markup:
    heading = _HEADING.fullmatch(block)
    if heading:
        return Markup("<h{0}>{1}</h{0}>").format(level, _inline(heading[2]))
    if block.startswith("- "):
        items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
        rows = Markup("\n").join(Markup("<li>{}</li>").format(_inline(item.strip())) for item in items)
        return Markup("<ul>\n{}\n</ul>").format(rows)
    return Markup("<p>{}</p>").format(_inline(block))


def _inline(text: str) -> Markup:
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        tag, inside = ("code", found[1]) if found[1] else ("strong", found[2])
        parts += [escape(text[end : found.start()]), Markup("<{0}>{1}</{0}>").format(Markup(tag), inside)]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])
