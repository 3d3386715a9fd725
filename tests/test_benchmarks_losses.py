"""What the benchmarks of losses compare with, and how they measure."""

import pytest
import torch

from benchmarks import losses, per_lesion
from benchmarks.child import folders, in_child
from benchmarks.memory import peak_mib
from benchmarks.patches import cube_batch, organ_batch
from nnunet_rw.maps.kinds import KINDS


def test_organ_batch():
    batch = organ_batch(24, KINDS)
    assert batch.logits.shape == (2, 3, 24, 24, 24)
    assert batch.target.dtype == torch.int16
    assert {kind: values.shape[:2] for kind, values in batch.maps.items() if kind != "lesion_table"} == {
        "interior_distance": (2, 1),
        "boundary_distance": (2, 3),
        "lesion_ids": (2, 2),
    }
    assert set(batch.target.unique().tolist()) == {0, 1, 2}
    assert (batch.logits.argmax(1) == batch.target[:, 0]).float().mean() > 0.7


def test_cube_batch():
    batch = cube_batch(40, 5)
    assert batch.maps["lesion_table"].shape == (1, 2, 6)
    assert int((batch.target == 1).sum()) == 5 * 27
    with pytest.raises(ValueError, match="at most 64 lesions"):
        cube_batch(40, 65)


def test_per_lesion_losses_equal_the_loop():
    # It raises where values or gradients differ.
    rows = per_lesion.run(size=24, num_lesions=4, rounds=1)
    assert [row["loss"] for row in rows] == ["blob", "cc_dice_ce"]
    assert all(row["times_faster"] == row["loop_seconds"] / row["seconds"] for row in rows)


def test_peak_memory_of_two_tensors_at_once():
    def step():
        for _ in range(3):
            torch.ones(2**18)
        torch.ones(2**18) + torch.ones(2**19).view(2, -1)

    # 1 and 2 MiB, and the sum's 2.
    assert peak_mib(step) == pytest.approx(5, abs=0.01)


def test_losses_are_those_of_the_trainers():
    from trainers.rw_inverse_volume import RWTrainer_IWDiceCE

    terms = [(term.loss, term.weight, term.options) for term in RWTrainer_IWDiceCE.loss_terms]
    assert terms == [(name, 1.0, losses._BALANCED) for name in ("dice", "ce")]


@pytest.mark.slow
def test_loaders(hippocampus):
    rows = in_child("benchmarks.loader", "loader_rows", ["4", "tiny", 1, 1], hippocampus.environment)
    names = [row["maps"] for row in rows]
    assert names[0] == "none"
    assert len(names) == 5
    assert all(row["seconds_per_sample"] > 0 for row in rows)


class TestChild:
    def test_result(self, tmp_path):
        assert in_child("os.path", "join", ["a", "b"], {}) == "a/b"

    def test_failure_is_told(self):
        with pytest.raises(RuntimeError, match=r"(?s)os.path.join failed with exit code 1.*TypeError"):
            in_child("os.path", "join", [1], {})

    def test_folders(self, tmp_path):
        assert set(folders(tmp_path)) == {"nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"}
        assert all((tmp_path / name).is_dir() for name in folders(tmp_path))
