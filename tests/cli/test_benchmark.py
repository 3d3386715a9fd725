"""`nnunet-rw benchmark` and `report`: what is listed, and what is refused."""

import pytest

from nnunet_rw.benchmark.run import Benchmark

DATASET = "Dataset004_Hippocampus"


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


def arguments(folder, *more, jobs=("--jobs", "2")):
    options = ["-f", "0", "1", "--epochs", "2", "--iterations", "2", "--plans", "tiny", "--device", "cpu"]
    return ["benchmark", "--tasks", DATASET, *options, *jobs, "-o", str(folder), *more]


def test_dry_run_lists_the_jobs_and_writes_nothing(hippocampus, succeeds, tmp_path):
    text = succeeds(*arguments(tmp_path / "benchmark", "--trainers", "nnUNetTrainer", "RWTrainer", "--dry-run"))
    lines = text.splitlines()
    assert lines[0].split() == ["to", "do", f"prepare/{DATASET}"]  # there are no splits yet
    assert lines[-1] == "7 jobs, 0 done"
    assert f"to do   train/{DATASET}/RWTrainer/seed0/fold1" in lines
    assert not (tmp_path / "benchmark").exists()


def test_what_is_refused_before_anything_is_written(hippocampus, fails, tmp_path):
    folder = tmp_path / "benchmark"
    assert fails("benchmark", "-o", folder).startswith(f"No benchmark in {folder}. Give --tasks and --trainers")
    assert fails("benchmark", "status", "-o", folder).startswith(f"No benchmark.yaml in {folder}")
    plain = ["--trainers", "nnUNetTrainer"]
    assert fails(*arguments(folder, *plain, "--tasks", "Task04_Hipocampus")).startswith("Unknown task")
    assert "finds no trainer 'RWTrainer_None'" in fails(*arguments(folder, "--trainers", "RWTrainer_None"))
    assert "No GPU" in fails(*arguments(folder, *plain, "--device", "cuda"))
    two_gpus = ("--executor", "slurm", "--device", "cuda", "-num_gpus", 2)
    assert fails(*arguments(folder, *plain, *two_gpus, jobs=())).endswith("but Slurm is asked for 1. Give --gpus 2.")
    file = tmp_path / "mine.yaml"
    file.write_text(f"tasks: [{DATASET}]\ntrainers: [nnUNetTrainer]\nepoch: 3\n")
    assert fails("benchmark", file, "-o", folder) == f"{file}: unknown key 'epoch'."
    assert fails("benchmark", tmp_path / "none.yaml", "-o", folder).startswith(f"No {tmp_path / 'none.yaml'}")
    assert not folder.exists()


def test_options_that_could_not_take_effect(hippocampus, fails, succeeds, tmp_path):
    folder = tmp_path / "benchmark"
    plain = ("--trainers", "nnUNetTrainer", "--dry-run")
    slurm = ("--partition", "gpu", "--time", 60)
    assert fails(*arguments(folder, *plain, *slurm)) == "--partition, --time: of --executor slurm."
    assert fails(*arguments(folder, *plain, "--executor", "slurm")).startswith("--jobs: of --executor local; ")
    assert fails(*arguments(folder, *plain, "--once")) == "--once: of benchmark status."
    options = ("--trainers", "RWTrainer", "--epochs", 5, "--dry-run", "--once")
    told = "--trainers, --epochs, --dry-run: of a benchmark that is run, not of status."
    assert fails("benchmark", "status", "-o", folder, *options) == told
    assert fails(*arguments(folder, *plain, "-num_gpus", 2)) == "benchmark: 'num_gpus': expected 1 on 'cpu', but got 2."
    # A file may say both: that of a cluster is tried on a laptop.
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"tasks: [{DATASET}]\ntrainers: [nnUNetTrainer]\ndevice: cpu\n"
        "execution: {executor: slurm, jobs: 3, slurm: {partition: gpu}}\n"
    )
    succeeds("benchmark", file, "-o", folder, "--dry-run", *slurm)
    succeeds("benchmark", file, "-o", folder, "--dry-run", "--executor", "local", "--jobs", 2)
    assert not folder.exists()


def test_the_command_line_goes_before_the_file(hippocampus, succeeds, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f"tasks: [{DATASET}]\ntrainers: [nnUNetTrainer]\nfolds: [0]\ndevice: cpu\nseeds: 2\n")
    text = succeeds("benchmark", file, "-o", tmp_path / "out", "-f", 1, "--dry-run")
    assert f"train/{DATASET}/nnUNetTrainer/seed1/fold1" in text
    assert "fold0" not in text


def test_a_file_may_say_more_of_trainers_and_tasks_than_are_asked_for(hippocampus, succeeds, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "tasks: [Task11_MSLesion]\nsplits: {Task11_MSLesion: none.json}\ntrainers: [nnUNetTrainer, RWTrainer]\n"
        "seeds_of: {nnUNetTrainer: 2, RWTrainer: 3}\nfolds: [0]\ndevice: cpu\n"
    )
    options = ("-o", tmp_path / "out", "--tasks", DATASET, "--trainers", "nnUNetTrainer", "--dry-run")
    text = succeeds("benchmark", file, *options)
    assert f"train/{DATASET}/nnUNetTrainer/seed1/fold0" in text
    assert "RWTrainer" not in text
    # A number of seeds is that of all trainers.
    assert "seed1" not in succeeds("benchmark", file, *options, "--seeds", 1)


def test_what_is_evaluated(hippocampus, succeeds, tmp_path, monkeypatch):
    seen = []

    def benchmark(folder, specification):
        seen.append(specification.evaluation)
        return Benchmark(folder, specification)

    monkeypatch.setattr("nnunet_rw.benchmark.run.Benchmark", benchmark)
    for given in ((), ("--no-froc",), ("--no-froc", "--no-tta", "--scores", "brats-met", "cc")):
        succeeds(*arguments(tmp_path / "out", "--trainers", "nnUNetTrainer", "--dry-run", *given))
    assert [(options.froc, options.tta) for options in seen] == [(True, True), (False, True), (False, False)]
    assert [options.scores for options in seen] == [(), (), ("brats-met", "cc")]


def test_report_of_no_benchmark(fails, tmp_path):
    assert fails("report", tmp_path).startswith(f"No benchmark.yaml in {tmp_path}")
