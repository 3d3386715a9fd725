"""The literature that a benchmark cites: references.bib, and which entries belong to a trainer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_PATH = Path(__file__).with_name("references.bib")
_ENTRY = re.compile(r"^@\w+\{([^,\s]+),$.*?^\}$", re.MULTILINE | re.DOTALL)
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
# Papers that are on no arXiv, as the trainers name them.
_OTHERS = {
    "Chen et al. 2019, CVPR": "chen2019activecontour",
    "Lin et al. 2024, Information Sciences": "lin2024fuzzyrough",
}


def read_entries() -> dict[str, str]:
    """The entries of references.bib by citation key, each as it stands there."""
    return {found[1]: found[0] for found in _ENTRY.finditer(_PATH.read_text(encoding="utf-8"))}


def entries_text(keys: Iterable[str], version: str) -> str:
    """The entries of these keys, in the order of references.bib.

    Parameters
    ----------
    keys : citation keys
    version : str
        Of this package, for its own entry.
    """
    wanted = set(keys)
    entries = [entry for key, entry in read_entries().items() if key in wanted]
    return "\n\n".join(entries).replace("@VERSION@", version.replace("_", r"\_")) + "\n"


def keys_of_paper(paper: str) -> tuple[str, ...]:
    """Citation keys of what a trainer's `paper` names, such as "Valverde & Tohka 2022, arXiv 2108.01405".

    Several papers are parted by semicolons. One without an entry, as a user's own trainer may name it, is left out.
    """
    keys = (_key_of_one(one.strip()) for one in paper.split(";"))
    return tuple(key for key in keys if key)


def _key_of_one(paper: str) -> str | None:
    arxiv = _ARXIV.search(paper)
    if not arxiv:
        return _OTHERS.get(paper)
    field = f"eprint = {{{arxiv[1]}}}"
    return next((key for key, entry in read_entries().items() if field in entry), None)
