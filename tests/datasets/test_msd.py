"""The tasks of the Decathlon, and the names that they may be given."""

import pytest

from nnunet_rw.datasets.msd import BASE_URL, TASKS, decathlon_task

NAME = "Task04_Hippocampus"


class TestTasks:
    def test_the_ten(self):
        assert [int(name[4:6]) for name in TASKS] == list(range(1, 11))
        assert all(task.name == name for name, task in TASKS.items())
        # numTraining in the archives' dataset.json.
        assert [task.num_training for task in TASKS.values()] == [484, 20, 131, 260, 32, 63, 281, 303, 41, 126]

    def test_addresses_and_checksums_are_those_of_monai(self):
        dataset = pytest.importorskip("monai.apps").DecathlonDataset
        assert {f"{BASE_URL}/{name}.tar" for name in TASKS} == set(dataset.resource.values())
        assert {name: task.md5 for name, task in TASKS.items()} == dataset.md5

    @pytest.mark.parametrize(
        "text", [NAME, NAME.lower(), "Task04", "task4", "04", "4", "Hippocampus", "hippo", "Task04_Hip"]
    )
    def test_names(self, text):
        assert decathlon_task(text).name == NAME

    @pytest.mark.parametrize(("text", "name"), [("1", "Task01_BrainTumour"), ("brain_tumour", "Task01_BrainTumour")])
    def test_more_names(self, text, name):
        assert decathlon_task(text).name == name

    def test_ambiguous(self):
        with pytest.raises(ValueError, match=r"^'He' could be any of Task02_Heart, Task08_HepaticVessel\. Give more"):
            decathlon_task("He")

    @pytest.mark.parametrize(
        ("text", "near"),
        [
            ("Task01_BrainTumor", "Task01_BrainTumour"),
            ("Hipocampus", NAME),
            ("Task05_Spleen", "Task09_Spleen"),
        ],
    )
    def test_unknown_with_near_matches(self, text, near):
        with pytest.raises(
            ValueError, match=rf"^No task '{text}' in the Decathlon\. Did you mean .*{near}.*\?"
        ) as info:
            decathlon_task(text)
        assert str(info.value).endswith(f"There are: {', '.join(TASKS)}.")

    @pytest.mark.parametrize("text", ["xyz", "", "_", "11"])
    def test_unknown(self, text):
        with pytest.raises(
            ValueError, match=r"^No task .* There are: Task01_BrainTumour, Task02_Heart, .*Task10_Colon\.$"
        ):
            decathlon_task(text)
