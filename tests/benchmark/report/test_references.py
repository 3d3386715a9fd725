import re

import pytest

from nnunet_rw.benchmark.report.methods import entries_text, keys_of_paper, read_entries
from nnunet_rw.training.catalogue import trainer_classes


def test_every_entry_is_read_and_whole():
    entries = read_entries()
    text = entries_text(entries, "1")
    assert len(entries) == text.count("\n@") + 1
    for key, entry in entries.items():
        assert entry.count("{") == entry.count("}"), key
        assert "\n  author = {" in entry, key
        assert "\n  title = {" in entry, key
        # Where it can be found.
        assert re.search(r"\n  (doi|eprint|url|howpublished) = \{", entry), key
        if key != "nnunet_rw":
            assert re.search(r"\n  year = \{\d{4}\},", entry), key


def test_identifiers_are_unique():
    found = [value for entry in read_entries().values() for value in re.findall(r"(?:doi|eprint) = \{(.+)\}", entry)]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("paper", sorted({trainer.paper for trainer in trainer_classes().values()}))
def test_every_trainers_papers_have_entries(paper):
    keys = keys_of_paper(paper)
    assert len(keys) == paper.count(";") + 1
    for key, one in zip(keys, paper.split(";"), strict=True):
        assert one.split()[0] in read_entries()[key], "the first author"


def test_paper_of_a_users_own_trainer():
    assert keys_of_paper("") == ()
    assert keys_of_paper("Somebody et al. 2030, arXiv 3001.00001") == ()


def test_version():
    assert "version 1.2\\_3}" in entries_text(["nnunet_rw"], "1.2_3")
    assert entries_text(["holm1979procedure"], "1").count("@") == 1
