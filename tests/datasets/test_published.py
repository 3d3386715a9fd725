"""Published figures: of every task, once, and told where a report is on that task alone."""

import pytest

from nnunet_rw.datasets.msd import PUBLISHED, SOURCE, TASKS, WHAT_DIFFERS, published_sentence, values_of


def test_every_task_and_label_has_both_figures():
    assert list(PUBLISHED) == list(TASKS)
    # Foreground labels of the dataset.json of each task.
    assert [len(labels) for labels in PUBLISHED.values()] == [3, 1, 2, 2, 2, 1, 2, 2, 1, 1]
    for labels in PUBLISHED.values():
        for found in labels:
            assert 0 < found.test <= 100
            assert 0 < found.cross_validation <= 100


def test_values_are_those_of_the_labels_in_turn():
    assert values_of("Task04_Hippocampus") == ("89.9 / 88.2", "90.1 / 88.8")


def test_sentence_tells_figures_source_and_what_differs():
    sentence = published_sentence("Dataset004_Hippocampus")
    assert "Anterior 89.9 (90.1); Posterior 88.2 (88.8)." in sentence
    assert SOURCE in sentence
    assert WHAT_DIFFERS in sentence


@pytest.mark.parametrize("dataset", ["Dataset104_Hippocampus", "Dataset004_Mine", ""])
def test_no_sentence_on_other_data(dataset):
    assert published_sentence(dataset) == ""
