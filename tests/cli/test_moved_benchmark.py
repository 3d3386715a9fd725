"""A benchmark whose folders were moved, or whose results are damaged: told, healed, and no report lost."""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmark_results import EPOCHS, ITERATIONS, write_run
from segmentation_files import EMPTY, PREDICTION, REFERENCE, write_dataset, write_dataset_json, write_image

from nnunet_rw.benchmark import training
from nnunet_rw.benchmark.jobs import Task, Workspace, jobs_of
from nnunet_rw.benchmark.report.page import finished_jobs
from nnunet_rw.benchmark.report.report import write_reports
from nnunet_rw.benchmark.results import read_results
from nnunet_rw.benchmark.run import Benchmark
from nnunet_rw.benchmark.specification import Specification, read_specification, write_specification
from nnunet_rw.benchmark.training import GALLERY, evaluate_trainer, fold_folder
from nnunet_rw.evaluation.protocols import PROTOCOL_COLUMNS
from nnunet_rw.training.records import content_hash, read_run_record
from nnunet_rw.util.files import NNUNET_FOLDERS, portable_path, whole_path

DATASET = "Dataset900_Tiny"
TRAINERS = ("nnUNetTrainer", "RWTrainer")
CASES = tuple("abcd")
FORMATS = ("html", "md", "latex", "csv")
JOBS = [f"evaluate/{DATASET}/{trainer}/seed0" for trainer in TRAINERS]
TRAININGS = [f"train/{DATASET}/{trainer}/seed0/fold{fold}" for trainer in TRAINERS for fold in (0, 1)]


@pytest.fixture(scope="module", autouse=True)
def trainers_are_as_recorded():
    """What a training would record now is what it recorded: there are no plans to begin one with."""

    def recorded(specification, job):
        record = read_run_record(fold_folder(specification, job))
        return record.loss, record.optimizer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "present_loss_and_optimizer", recorded)
        yield


@pytest.fixture(scope="module")
def made_project(tmp_path_factory, trainers_are_as_recorded):
    """A project's folder: nnU-Net's three folders, and a benchmark beside them, trained in two folds and reported."""
    root = tmp_path_factory.mktemp("made") / "project"
    write_dataset_json(root / "nnUNet_raw" / DATASET)
    for case in CASES:
        write_image(root / "nnUNet_raw" / DATASET / "imagesTr" / f"{case}_0000.nii.gz", REFERENCE.astype("float32"))
    folders = SimpleNamespace(preprocessed=root / "nnUNet_preprocessed")
    preprocessed = write_dataset(folders, dict.fromkeys(CASES, REFERENCE), [list("ab"), list("cd")], DATASET)
    (preprocessed / "nnUNetPlansSmall.json").write_text("{}")
    for trainer, prediction in zip(TRAINERS, (EMPTY, PREDICTION), strict=True):
        for fold, cases in enumerate(("ab", "cd")):
            path = write_run(root, DATASET, trainer, 0, fold).folder
            record = json.loads((path / "run.json").read_text())
            record["splits_sha256"] = content_hash(preprocessed / "splits_final.json")
            record["plans_sha256"] = content_hash(preprocessed / "nnUNetPlansSmall.json")
            (path / "run.json").write_text(json.dumps(record))
            (path / "checkpoint_final.pth").touch()
            write_dataset_json(path.parent)
            for case in cases:
                write_image(path / "validation" / f"{case}.nii.gz", prediction)
            (path / "validation" / "summary.json").write_text("{}")
    specification = Specification(
        tasks=(DATASET,),
        trainers=TRAINERS,
        folds=(0, 1),
        epochs=EPOCHS,
        iterations=ITERATIONS,
        plans="small",
        device="cpu",
        evaluation={"froc": False},
    )
    before = dict(os.environ)
    try:
        os.environ.pop("nnUNet_extTrainer", None)
        os.environ.update({name: str(root / name) for name in NNUNET_FOLDERS})
        Benchmark(root / "benchmark", specification).workspace.keep(specification)
        evaluate_all(root / "benchmark")
        write_reports(root / "benchmark", FORMATS)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return root


@pytest.fixture
def project(made_project, tmp_path, new_shell):
    """A copy of one's own, without the reports."""
    root = shutil.copytree(made_project, tmp_path / "project")
    (root / "benchmark" / "report.html").unlink()
    shutil.rmtree(root / "benchmark" / "report")
    return root


@pytest.fixture
def reported(made_project, tmp_path, new_shell):
    """The folder of a benchmark with a report in all formats."""
    return shutil.copytree(made_project, tmp_path / "project") / "benchmark"


@pytest.fixture
def new_shell():
    """Function that forgets what was set in the shell: a benchmark tells itself where its folders are."""

    def forget():
        for name in (*NNUNET_FOLDERS, "nnUNet_extTrainer"):
            os.environ.pop(name, None)

    forget()
    return forget


def evaluate_all(folder):
    """What `nnunet-rw benchmark` does of evaluations; how many were made."""
    workspace = Workspace(folder.resolve())
    specification = workspace.specification()
    workspace.activate()
    before = times(folder)
    for job in jobs_of(specification, [Task(DATASET, DATASET)]):
        if job.kind == "evaluate":
            evaluate_trainer(workspace, specification, job, 1)
    return sum(before.get(path) != time for path, time in times(folder).items())


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("evaluations/*/*/summary.json")}


def dice(folder):
    """Of the first case, by trainer: 0, and 2 * 2 / (5 + 6) as the prediction hits 2 of 5 voxels with 6."""
    (task,) = read_results(folder).tasks
    return {trainer: of_seeds[0].columns["1"]["dice"][0] for trainer, of_seeds in task.evaluations.items()}


DICE = {"nnUNetTrainer": 0.0, "RWTrainer": pytest.approx(4 / 11)}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/a/project/benchmark/nnUNet_raw", "./nnUNet_raw"),
        ("/a/project/nnUNet_raw", "../nnUNet_raw"),
        ("/a/project/data/Task04_X", "../data/Task04_X"),
        ("/a/other/nnUNet_raw", "/a/other/nnUNet_raw"),
        ("/a/project2/nnUNet_raw", "/a/project2/nnUNet_raw"),
    ],
)
def test_paths_that_move_together_are_relative(path, text):
    folder = Path("/a/project/benchmark")
    assert portable_path(path, folder) == text
    assert whole_path(text, folder) == path


def test_folders_are_kept_relative(project):
    kept = json.loads((project / "benchmark" / "folders.json").read_text())
    assert kept == {**{name: f"../{name}" for name in NNUNET_FOLDERS}, "nnUNet_extTrainer": ""}


def test_trainers_of_the_kept_folder_and_of_the_shell_are_searched(project, monkeypatch):
    for name in ("kept", "later"):
        (project / name).mkdir()
    workspace = Workspace(project / "benchmark")
    monkeypatch.setenv("nnUNet_extTrainer", str(project / "kept"))
    workspace.keep(workspace.specification())
    assert json.loads(workspace.folders_file.read_text())["nnUNet_extTrainer"] == "../kept"
    monkeypatch.setenv("nnUNet_extTrainer", str(project / "later"))
    searched = workspace.nnunet_folders()["nnUNet_extTrainer"].split(os.pathsep)
    # Those of this package come last.
    assert searched[:-1] == [str(project / "kept"), str(project / "later")]


def test_moved_with_all_that_lies_beside_it(project, new_shell, tmp_path, succeeds):
    moved = project.rename(tmp_path / "archive")
    assert dice(moved / "benchmark") == DICE
    assert evaluate_all(moved / "benchmark") == 0
    new_shell()
    assert succeeds("report", moved / "benchmark").strip() == str(moved / "benchmark" / "report.html")
    assert finished_jobs(moved / "benchmark" / "report.html") == sorted([*JOBS, *TRAININGS])
    assert "6 of 7 jobs done" in succeeds("benchmark", "status", "-o", moved / "benchmark")


def test_scores_that_are_asked_for_later(project):
    file = project / "benchmark" / "benchmark.yaml"
    values = read_specification(file).model_dump()
    values["evaluation"]["scores"] = ["cc", "brats-met"]
    write_specification(Specification(**values), file)
    assert dice(project / "benchmark") == {}
    assert evaluate_all(project / "benchmark") == 2
    (task,) = read_results(project / "benchmark").tasks
    rows = {row.metric: row for row in task.comparison.metrics}
    assert set(PROTOCOL_COLUMNS) <= set(rows)
    # All is nearer to the lesion of 4 voxels, of which 2 are hit with 6; the part of the other is left empty.
    assert (rows["cc_dice"].baseline_mean, rows["cc_dice"].challenger_mean) == (0, 0.4 / 2)


def test_task_and_splits_beside_the_benchmark_move_with_it(tmp_path):
    for name in ("Task07_Inside", "../data/Task08_Beside"):
        (tmp_path / "old" / "benchmark" / name).mkdir(parents=True)
    file = tmp_path / "old" / "benchmark" / "benchmark.yaml"
    tasks = tuple(str(tmp_path / "old" / name) for name in ("benchmark/Task07_Inside", "data/Task08_Beside"))
    splits = {"Task07_Inside": str(tmp_path / "old" / "splits.json"), "Task08_Beside": "/elsewhere/splits.json"}
    specification = Specification(tasks=(*tasks, "Task04_Hippocampus"), trainers=("a",), splits=splits)
    write_specification(specification, file)
    assert read_specification(file) == specification
    (tmp_path / "old").rename(tmp_path / "new")
    found = read_specification(tmp_path / "new" / "benchmark" / "benchmark.yaml")
    assert found.tasks == (*(task.replace("/old/", "/new/") for task in tasks), "Task04_Hippocampus")
    assert found.splits == {**splits, "Task07_Inside": str(tmp_path / "new" / "splits.json")}


def test_path_of_a_file_is_of_its_folder_or_of_the_command(tmp_path, monkeypatch):
    (tmp_path / "configurations").mkdir()
    (tmp_path / "data" / "Task07_Mine").mkdir(parents=True)
    file = tmp_path / "configurations" / "mine.yaml"
    file.write_text("tasks: [./data/Task07_Mine, ../data/Task08_None]\ntrainers: [RWTrainer]\n")
    monkeypatch.chdir(tmp_path)
    assert read_specification(file).tasks == ("./data/Task07_Mine", str(tmp_path / "data" / "Task08_None"))
    monkeypatch.chdir(tmp_path / "data")
    assert read_specification(file).tasks[0] == str(tmp_path / "configurations" / "data" / "Task07_Mine")


@pytest.mark.parametrize("command", [("report",), ("benchmark", "-o"), ("benchmark", "status", "--once", "-o")])
@pytest.mark.parametrize("name", ["nnUNet_results", "nnUNet_raw"])
def test_folder_that_was_moved_elsewhere_is_told_with_what_to_edit(project, tmp_path, fails, command, name):
    (project / name).rename(tmp_path / "elsewhere")
    file = project / "benchmark" / "folders.json"
    before = {path: path.read_bytes() for path in (project / "benchmark").glob("*.*")}
    assert fails(*command, project / "benchmark") == (
        f"{file} names {project / name} as {name}, which is no folder. Was it moved, or the benchmark? Write its place "
        "into that file, or make the folder."
    )
    assert {path: path.read_bytes() for path in (project / "benchmark").glob("*.*")} == before
    assert not (project / name).exists()
    # As it says, with nothing evaluated anew.
    file.write_text(json.dumps({**json.loads(file.read_text()), name: str(tmp_path / "elsewhere")}))
    assert dice(project / "benchmark") == DICE


def test_whole_paths_of_earlier_versions_open(project):
    file = project / "benchmark" / "folders.json"
    file.write_text(
        json.dumps({**{name: str(project / name) for name in NNUNET_FOLDERS}, "nnUNet_extTrainer": "/gone"})
    )
    assert dice(project / "benchmark") == DICE


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"nnUNet_raw": 3}', "\xff"])
def test_damaged_file_of_folders(project, fails, content):
    file = project / "benchmark" / "folders.json"
    file.write_text(content, encoding="latin-1")
    assert fails("report", project / "benchmark").startswith(f"{file} is damaged (")


def test_where_a_page_is_written(project, tmp_path, succeeds):
    (tmp_path / "there").mkdir()
    # A folder, made or not, and a page by its ending.
    for given, page in (("there", "there/report.html"), ("new", "new/report.html"), ("own.HTML", "own.HTML")):
        assert succeeds("report", project / "benchmark", "-o", tmp_path / given).strip() == str(tmp_path / page)
        assert (tmp_path / page).is_file()
    twice = succeeds("report", project / "benchmark", "--format", "html", "html", "-o", tmp_path / "once.html")
    assert twice.strip() == str(tmp_path / "once.html")


def test_task_that_was_moved(project, tmp_path, fails):
    file = project / "benchmark" / "benchmark.yaml"
    file.write_text(file.read_text().replace(f"- {DATASET}", f"- {tmp_path}/Task07_Gone"))
    message = fails("report", project / "benchmark")
    assert message.startswith(f"No folder {tmp_path}/Task07_Gone of a task. Was it moved? Give its place with --tasks")


def contents(folder):
    return {path: path.read_bytes() for path in (folder / "report.html", *(folder / "report").iterdir())}


@pytest.mark.parametrize("format", FORMATS)
def test_no_report_is_replaced_by_one_of_less(reported, new_shell, succeeds, fails, format):
    before = contents(reported)
    shutil.rmtree(reported.parent / "nnUNet_results" / DATASET)
    message = fails("report", reported, "--format", format)
    path = reported / ("report.html" if format == "html" else "report")
    assert message == (
        f"{path} has results that are not there now ({', '.join(JOBS[::-1])} and 4 more), and is kept. Run: nnunet-rw "
        f"benchmark -o {reported}, which tells what is missing and makes it, or nnunet-rw report {reported} "
        "--allow-fewer to replace it."
    )
    assert contents(reported) == before
    new_shell()
    succeeds("report", reported, "--format", format, "--allow-fewer")
    assert contents(reported) != before


def test_report_with_fewer_evaluations(reported, fails, succeeds):
    """Half of it is less as well; what the benchmark is no longer about is not missed."""
    shutil.rmtree(reported / "evaluations" / DATASET / f"RWTrainer_{EPOCHS}epochs_{ITERATIONS}iterations_seed0")
    assert f"({JOBS[1]})" in fails("report", reported)
    file = reported / "benchmark.yaml"
    file.write_text(file.read_text().replace("- RWTrainer\n", ""))
    succeeds("report", reported)
    assert finished_jobs(reported / "report.html") == [JOBS[0], *TRAININGS[:2]]


def test_report_of_an_earlier_version_is_not_replaced_by_an_empty_one(reported, new_shell, succeeds, fails):
    page = reported / "report.html"
    page.write_text(re.sub("<meta name=.nnunet-rw-finished.*", "", page.read_text()))
    (reported / "report" / "finished.json").unlink()
    assert finished_jobs(page) is None
    results = reported.parent / "nnUNet_results" / DATASET
    results.rename(reported.parent / "aside")
    for format in FORMATS:
        new_shell()
        message = fails("report", reported, "--format", format)
        assert f"has results that are not there now ({', '.join(JOBS[::-1])}), and is kept" in message
    (reported / "evaluations").rename(reported / "aside")
    assert "has results, and now there are none, and is kept" in fails("report", reported)
    (reported / "aside").rename(reported / "evaluations")
    (reported.parent / "aside").rename(results)
    succeeds("report", reported, "--format", "html", "md")
    assert len(finished_jobs(page)) == 6


def test_evaluations_of_an_earlier_version_are_made_again_before_the_report(reported, succeeds, fails):
    """They do not say of which files they are."""
    page = reported / "report.html"
    page.write_text(re.sub("<meta name=.nnunet-rw-finished.*", "", page.read_text()))
    for path in times(reported):
        summary = json.loads(path.read_text())
        path.write_text(
            json.dumps({key: summary[key] for key in summary if key not in ("inputs", "labels", "written")})
        )
    assert f"({', '.join(JOBS[::-1])}), and is kept" in fails("report", reported)
    assert evaluate_all(reported) == 2
    succeeds("report", reported)


def test_benchmark_tells_that_it_kept_the_report(reported, monkeypatch):
    before = contents(reported)
    monkeypatch.setattr("nnunet_rw.benchmark.run.run_schedule", lambda *arguments: [])
    shutil.rmtree(reported / "evaluations")
    (failure,) = Benchmark(reported).run()
    assert (failure.job, failure.log_tail) == ("report", ())
    assert failure.reason.startswith(f"{reported / 'report.html'} has results that are not there now ({JOBS[1]}, ")
    assert contents(reported) == before


def damage_picture(folder):
    (path,) = (folder / GALLERY).glob("worst_cases_*.png")
    path.write_bytes(path.read_bytes()[:500])


def damage_table(folder):
    path = folder / "cases.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:3]))


def replace_prediction(folder):
    (fold,) = folder.parents[2].with_name("nnUNet_results").glob(f"{DATASET}/RWTrainer_*/fold_0")
    path = fold / "validation" / "a.nii.gz"
    before = path.stat().st_mtime - 1e6
    write_image(path, REFERENCE)
    os.utime(path, (before, before))


@pytest.mark.parametrize(
    ("damage", "now"), [(damage_picture, 4 / 11), (damage_table, 4 / 11), (replace_prediction, 1.0)]
)
def test_damaged_or_outdated_evaluation_is_told_and_made_again(reported, succeeds, fails, damage, now):
    damage(reported / "evaluations" / DATASET / f"RWTrainer_{EPOCHS}epochs_{ITERATIONS}iterations_seed0")
    assert dice(reported) == {"nnUNetTrainer": 0}
    assert f"has results that are not there now ({JOBS[1]}), and is kept" in fails("report", reported)
    assert evaluate_all(reported) == 1
    assert dice(reported) == {"nnUNetTrainer": 0, "RWTrainer": pytest.approx(now)}
    succeeds("report", reported)


def test_pictures_of_classes_that_are_gone_are_removed(project):
    (folder,) = (project / "benchmark").glob(f"evaluations/{DATASET}/RWTrainer_*")
    names = sorted(path.name for path in (folder / GALLERY).iterdir())
    (folder / GALLERY / "worst_cases_other.png").write_bytes(b"")
    (folder / "cases.csv").unlink()
    assert evaluate_all(project / "benchmark") == 1
    assert sorted(path.name for path in (folder / GALLERY).iterdir()) == names
