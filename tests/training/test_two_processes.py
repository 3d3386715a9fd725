"""One training of two processes, as on two GPUs."""

import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from torch.nn.parallel import DistributedDataParallel
from trainings import CPU, LABELS, SHORT, SYNTHETIC, map_files, model_folder, training_log

from nnunet_rw.training.records import read_iterations, read_run_record


def train_on_rank(rank, folder, trainer_name):
    """One of two processes of a training, as nnU-Net's `run_ddp` but on the CPU. Called by name from a new process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=int(rank), world_size=2)
    stock.DDP = lambda network, device_ids: DistributedDataParallel(network)
    LocalLogger.plot_progress_png = lambda self, folder: None
    trainer = get_trainer_from_args(SYNTHETIC, "3d_fullres", 0, trainer_name)
    trainer.device, trainer.grad_scaler = CPU, None
    trainer.run_training()
    state = {"weights": trainer.network.module.state_dict(), "curves": trainer.logger.get_checkpoint()}
    torch.save({**state, "batch_size": trainer.batch_size}, f"{folder}/rank_{rank}.pth")
    dist.destroy_process_group()


def train_on_two_ranks(folder, trainer_name):
    """Exit codes and outputs of both processes."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['train_on_rank'](*sys.argv[2:])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, __file__, str(rank), str(folder), trainer_name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


@pytest.mark.slow
def test_two_processes_train_one_network_with_batches_of_unequal_size(nnunet, make_dataset, blobs, tmp_path):
    # A batch of three is one of two and one of one; batch Dice sums over both.
    cases = {case: blobs((20, 22, 24), seed, num_classes=3) for seed, case in enumerate("abc")}
    dataset = make_dataset(
        cases, LABELS["classes"]["labels"], configurations={"3d_fullres": {"batch_size": 3, "batch_dice": True}}
    )
    name = "RWTrainer_IWDiceCE_1epochs_2iterations"
    codes, outputs = train_on_two_ranks(tmp_path, name)
    assert codes == [0, 0], outputs
    ranks = [torch.load(tmp_path / f"rank_{rank}.pth", weights_only=False) for rank in (0, 1)]
    assert [rank["batch_size"] for rank in ranks] == [2, 1]
    for key, weights in ranks[0]["weights"].items():
        assert torch.equal(weights, ranks[1]["weights"][key]), key
    for term in ("train_terms/dice", "train_terms/ce", "val_terms/dice", "train_losses"):
        assert len(ranks[0]["curves"][term]) == 1
        assert ranks[0]["curves"][term] == pytest.approx(ranks[1]["curves"][term])
    assert map_files(dataset.data_folder()) == [f"lesion_ids/{case}" for case in "abc"]
    assert ["Writing maps" in output for output in outputs] == [True, False]
    assert training_log(model_folder(nnunet, name) / "fold_0").count("Writing maps") == 1


@pytest.mark.slow
def test_an_error_while_maps_are_written_stops_both_processes(make_dataset, blobs, tmp_path):
    labels = blobs((20, 22, 24))
    labels[5, 5, 5] = 7
    make_dataset({"a": labels, "b": blobs((20, 22, 24))})
    codes, outputs = train_on_two_ranks(tmp_path, SHORT)
    assert all(code != 0 for code in codes)
    for output in outputs:
        assert "Case 'a'" in output
        assert "holds label 7, but the dataset's highest is 1" in output


@pytest.mark.slow
def test_two_processes_leave_one_record(tmp_path, nnunet, small_dataset):
    name = "RWTrainer_2epochs_2iterations_seed5"
    codes, outputs = train_on_two_ranks(tmp_path, name)
    assert codes == [0, 0], outputs
    folder = model_folder(nnunet, name) / "fold_0"
    record = read_run_record(folder)
    assert record.finished
    assert record.sessions[0].num_gpus == 2
    assert record.batch_size == 2
    assert read_iterations(folder)["epoch"].tolist() == [0, 0, 1, 1]
