"""The YAML file of a benchmark: what it may hold, and what is said of mistakes."""

import math

import pytest

from nnunet_rw.benchmark.specification import read_specification, specification_of, with_paths, write_specification

VALUES = {"tasks": ["Task04_Hippocampus"], "trainers": ["nnUNetTrainer", "RWTrainer"]}


def test_defaults():
    specification = specification_of(VALUES, "here")
    assert specification.folds == (0, 1, 2, 3, 4)
    assert (specification.configuration, specification.plans, specification.device) == (
        "3d_fullres",
        "nnUNetPlans",
        "cuda",
    )
    assert (specification.seeds, specification.epochs, specification.execution.executor) == (1, None, "local")
    assert specification.evaluation.froc


def test_written_and_read_again(tmp_path):
    values = {
        **VALUES,
        "folds": [1, 0],
        "seeds": 3,
        "epochs": 15,
        "evaluation": {"connectivity": 6, "min_volume_mm3": 2.5, "froc": False},
        "execution": {"executor": "slurm", "slurm": {"partition": "gpu", "minutes": 90, "setup": ["module load cuda"]}},
    }
    path = tmp_path / "benchmark.yaml"
    written = specification_of(values, "here")
    write_specification(written, path)
    assert read_specification(path) == written
    assert written.execution.slurm.setup == ("module load cuda",)
    # A person can read and change it.
    assert "folds:\n- 1\n- 0\n" in path.read_text()


def test_the_file_of_patients_moves_with_the_benchmark(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / "patients.csv").write_text("case,patient\n")
    written = specification_of({**VALUES, "groups": str(before / "patients.csv")}, "here")
    write_specification(written, before / "benchmark.yaml")
    before.rename(after)
    assert read_specification(after / "benchmark.yaml").groups == str(after / "patients.csv")


def test_paths_of_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "mine.yaml"
    path.write_text(
        "tasks: [~/Task77_Own]\ntrainers: [RWTrainer]\ngroups: ~/patients.csv\nsplits: {Task77_Own: ~/splits.json}\n"
    )
    found = read_specification(path)
    assert (found.tasks, found.groups) == ((str(tmp_path / "Task77_Own"),), str(tmp_path / "patients.csv"))
    assert found.splits == {"Task77_Own": str(tmp_path / "splits.json")}


def test_a_dataset_s_name_is_no_path_where_a_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("Dataset004_Hippocampus", "Task04_Hippocampus"):
        (tmp_path / name).mkdir()
    given = specification_of({**VALUES, "tasks": ["Dataset004_Hippocampus", "Task04_Hippocampus", "Task02_Heart"]}, "")
    assert with_paths(given, str.upper).tasks == ("Dataset004_Hippocampus", "TASK04_HIPPOCAMPUS", "Task02_Heart")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epoch": 5}, "unknown key 'epoch'"),
        ({"execution": {"slurm": {"partitoin": "gpu"}}}, "unknown key 'execution.slurm.partitoin'"),
        ({"epochs": 0}, "'epochs': expected greater than or equal to 1, but got 0"),
        ({"epochs": "many"}, "'epochs': expected a valid integer, .*, but got 'many'"),
        ({"folds": [0, -1]}, "'folds': expected folds from 0, not -1"),
        ({"folds": []}, "'folds': .* at least 1 item"),
        ({"trainers": ["RWTrainer", "RWTrainer"]}, "'trainers': expected each once, but RWTrainer is given twice"),
        ({"trainers": ["RWTrainer_20epochs"]}, "without length or seed .* not 'RWTrainer_20epochs'"),
        ({"trainers": ["RWTrainer_seed1"]}, "without length or seed"),
        ({"trainers": ["../evil"]}, "names of trainers"),
        ({"device": "tpu"}, "'device': expected 'cpu', 'cuda' or 'mps', but got 'tpu'"),
        ({"evaluation": {"min_volume_mm3": math.inf}}, "'evaluation.min_volume_mm3': expected a finite number"),
        ({"evaluation": {"tolerance_mm": math.nan}}, "'evaluation.tolerance_mm': expected a finite number"),
        ({"device": "mps", "num_gpus": 2}, "'num_gpus': expected 1 on 'mps', but got 2"),
        ({"plans": "../nnUNetPlans"}, "'plans': expected a name of plans, not a path"),
        ({"evaluation": {"connectivity": 8}}, "'evaluation.connectivity': expected 6, 18 or 26, but got 8"),
        ({"evaluation": {"scores": ["bogus"]}}, "'evaluation.scores': expected scores out of brats-gli, .*, but got"),
        ({"evaluation": {"scores": ["cc", "cc"]}}, "'evaluation.scores': expected scores .* each once"),
        ({"tasks": None}, "'tasks': expected a list, but got None"),
        ({"tasks": "Task04_Hippocampus"}, "'tasks': expected a list, but got 'Task04_Hippocampus'"),
        ({"tasks": [4]}, r"^mine.yaml: 'tasks\.0': expected a valid string, but got 4\.$"),
        ({"tasks": []}, "'tasks': .* at least 1 item"),
        ({"iterations": 3}, "'iterations': expected 'epochs' as well, but got 3"),
        ({"iterations": 3, "epochs": "x"}, "^mine.yaml: 'epochs': expected a valid integer, [^;]*$"),
        ({"seeds_of": {"RWTrainer_RRW": 3}}, "'seeds_of': expected trainers of the benchmark, not 'RWTrainer_RRW'"),
        ({"seeds_of": {"RWTrainer": 0}}, "'seeds_of': expected at least one seed of each trainer"),
        ({"splits": {"Task4": "a.json"}}, "'splits': expected tasks of the benchmark, not 'Task4'"),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        specification_of({**VALUES, **change}, "mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("plans", "options"), [("small", {}), ("small32", {"max_patch": 32}), ("nnUNetPlans", None), ("smaller", None)]
)
def test_small_plans_of_another_patch(plans, options):
    assert specification_of({**VALUES, "plans": plans}, "here").small_options == options


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ValueError, match=r"no 'tasks'; no 'trainers'; unknown key 'task'\.$"):
        specification_of({"task": "Task04_Hippocampus"}, "mine.yaml")


def test_files_that_hold_no_specification(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No .*none\.yaml"):
        read_specification(tmp_path / "none.yaml")
    path = tmp_path / "benchmark.yaml"
    path.write_text("tasks: [Task04_Hippocampus\n")
    with pytest.raises(ValueError, match="is no YAML"):
        read_specification(path)
    path.write_text("just text")
    with pytest.raises(ValueError, match="expected keys such as 'tasks: "):
        read_specification(path)
    path.write_text("tasks: [Task04_Hippocampus]\nexecution: {jobs: 2}\nfolds: [0]\nexecution: {executor: slurm}\n")
    with pytest.raises(ValueError, match=rf"^{path}: key 'execution' is given twice, again in line 4\.$"):
        read_specification(path)
    # YAML can name Python objects: those must not be made.
    path.write_text("tasks: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="is no YAML"):
        read_specification(path)
