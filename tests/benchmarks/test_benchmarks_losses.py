"""What the benchmarks of losses compare with, and how they measure."""

import math

import numpy as np
import pytest
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from benchmarks import gradient_shares, losses, per_lesion
from benchmarks.child import folders, in_child
from benchmarks.gradient_shares import compound_trainers
from benchmarks.harness import read_rows
from benchmarks.inputs import MS_SPACING_MM
from benchmarks.memory import peak_mib
from benchmarks.patches import cube_batch, organ_batch
from nnunet_rw.audit.audit import loss_of_trainer
from nnunet_rw.losses import Term
from nnunet_rw.losses.compound import MappedLoss, weight_at
from nnunet_rw.maps.kinds import KINDS
from nnunet_rw.training.catalogue import loss_text, trainer_classes

# Whose shares are stored: drawn images, and two datasets of real ones.
MEASURED = (gradient_shares.LESIONS, "Dataset004_Hippocampus", "Dataset051_TabrizMS")


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


class TestGradientShares:
    terms = (Term("ce"), Term("dice", "0.5 * ramp_up"), Term("rrw", 3.0))

    def test_shares_by_hand(self):
        # Gradients of three parameters. Without the second term, of weight 0 in the first epoch: (4, 0, 0) beside
        # 3 (0, 1, 0).
        gradients = {
            gradient_shares.term_key(term): torch.tensor(values)
            for term, values in zip(self.terms, ([4.0, 0, 0], [0.0, 2, 2], [0.0, 1, 0]), strict=True)
        }
        ce, dice, rrw = gradient_shares.shares(self.terms, [gradients], 0)
        assert (ce.share, ce.cosine) == pytest.approx((4 / 3, 0.0))
        assert (dice.share, dice.cosine) == (0.0, None)
        assert (rrw.share, rrw.cosine) == pytest.approx((3 / 4, 0.0))
        # At its full weight it is (0, 1, 1), beside (4, 3, 0): 3 / (sqrt(2) 5).
        _, dice, _ = gradient_shares.shares(self.terms, [gradients], gradient_shares.EPOCHS - 1)
        assert (dice.share, dice.cosine) == pytest.approx((2**0.5 / 5, 3 / (5 * 2**0.5)))

    def test_shares_are_medians_over_batches(self):
        key = gradient_shares.term_key
        batches = [{key(Term("ce")): torch.tensor([1.0]), key(Term("dice")): torch.tensor([x])} for x in (1.0, 2, 9)]
        _, dice = gradient_shares.shares((Term("ce"), Term("dice")), batches, 0)
        assert dice == (2, (1, 9), 1)

    def test_terms_add_up_to_the_gradient_of_the_trainers_loss(self):
        terms = trainer_classes()["RWTrainer_IWDiceCE_RRW"].loss_terms
        volumes = gradient_shares.lesion_volumes()
        batch = gradient_shares._batch(volumes, (16,) * 3, np.random.default_rng(0))
        network = gradient_shares.small_network(1, 2)
        parts = gradient_shares.term_gradients(
            network, gradient_shares.term_losses({"": terms}, 2, MS_SPACING_MM), batch
        )
        loss = MappedLoss(
            loss_of_trainer("RWTrainer_IWDiceCE_RRW", LabelManager({"background": 0, "lesion": 1}, None)),
            gradient_shares.SCALE_WEIGHTS,
        )
        loss.maps = batch.maps
        loss(network(batch.image), batch.targets).backward()
        whole = torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in network.parameters()]
        )
        assert len(parts) == 3
        # The loss has the weights of the last epoch.
        weighted = [weight_at(term.weight, 999, 1000) * parts[gradient_shares.term_key(term)] for term in terms]
        torch.testing.assert_close(torch.stack(weighted).sum(0), whole, rtol=1e-3, atol=1e-6)

    def test_batches_hold_a_patch_around_foreground_and_maps_of_the_whole_volume(self):
        [volume] = gradient_shares.lesion_volumes()[:1]
        for seed in range(5):
            batch = gradient_shares._batch([volume], (16,) * 3, np.random.default_rng(seed))
            assert [tuple(target.shape) for target in batch.targets] == [(2, 1, *(edge,) * 3) for edge in (16, 8, 4)]
            assert batch.targets[0][1].max() == 1
            ids, table = batch.maps["lesion_ids"][1, 0], batch.maps["lesion_table"][1]
            assert table.shape[1] == 1 + volume.maps["lesion_ids"].max()
            # Ids reach beyond their lesions, for augmentation.
            assert (ids[batch.targets[0][1, 0] > 0] > 0).all()

    def test_ellipsoids_have_their_shapes_whatever_the_classes(self):
        few, many = (gradient_shares.ellipsoid_volumes(number)[0].labels for number in (2, 15))
        np.testing.assert_array_equal(few > 0, many > 0)
        assert set(np.unique(many)) == set(range(15))

    def test_scale_weights_are_nnunets(self):
        # 1 and 1 / 2 of what all but the coarsest of three outputs have together.
        assert gradient_shares.SCALE_WEIGHTS == (2 / 3, 1 / 3, 0)

    def test_a_row_for_every_term(self):
        rows = gradient_shares.run(iterations=1, batches=1, patch=16, classes=(3,))
        expected = [name for name, trainer in compound_trainers().items() for _ in trainer.loss_terms]
        assert [row["trainer"] for row in rows if row["measured"] == "trainers"] == expected
        # At first a term that ramps up has no share, and what is alone beside it none either.
        assert all(row["share_at_start"] is None or math.isfinite(row["share_at_start"]) for row in rows)
        assert all(math.isfinite(row["share_trained"]) for row in rows)
        ramped = [row for row in rows if "ramp_up" in row["weight"]]
        assert ramped
        assert all((row["share_at_start"], row["cosine_at_start"]) == (0, None) for row in ramped)
        mean, total = (row for row in rows if row["measured"] == "classes" and not row["stock"])
        # The sum over three classes is three times their mean.
        assert total["share_at_start"] == pytest.approx(3 * mean["share_at_start"], rel=1e-3)

    @pytest.mark.parametrize("data", MEASURED)
    def test_no_term_is_lost_and_none_drowns_the_others(self, data):
        rows = read_rows("gradient_shares", {"data": data, "stock": False})
        shipped = [row for row in rows if row["trainer"] in trainer_classes()]
        assert shipped
        # What docs/losses_compared.md says of every term. One that ramps up has no share at first.
        lost = [row for row in shipped if row["share_trained"] < 0.05]
        assert [(row["trainer"], row["term"]) for row in lost] == []
        drowning = [row for row in shipped if (row["share_at_start"] or 0) > 20]
        assert [(row["trainer"], row["term"]) for row in drowning] == []

    @pytest.mark.parametrize("data", MEASURED)
    def test_results_are_of_the_trainers_as_they_are(self, data):
        rows = [row for row in read_rows("gradient_shares", {"data": data}) if row["trainer"] in trainer_classes()]
        measured = {(row["trainer"], row["term"], row["weight"]) for row in rows}
        assert measured == {
            (
                name,
                loss_text([Term(term.loss, options=term.options)]),
                term.weight if isinstance(term.weight, str) else f"{term.weight:g}",
            )
            for name, trainer in compound_trainers().items()
            for term in trainer.loss_terms
        }, "Run: python -m benchmarks gradient_shares -d 4 51"


def test_gradient_shares_of_a_preprocessed_dataset(hippocampus):
    volumes, num_classes, patch = gradient_shares.preprocessed_volumes("4", 24)
    assert (num_classes, patch) == (3, (24, 24, 24))
    assert volumes[0].image.dtype == np.float32
    assert volumes[0].maps["boundary_distance"].shape == (3, *volumes[0].labels.shape)
    batch = gradient_shares._batch(volumes, patch, np.random.default_rng(0))
    losses = gradient_shares.term_losses({"": (Term("nnunet"), Term("rrw"))}, num_classes, volumes[0].spacing_mm)
    gradients = gradient_shares.term_gradients(gradient_shares.small_network(1, num_classes), losses, batch)
    assert all(gradient.norm() > 0 for gradient in gradients.values())
    # Of cases smaller than the edge a patch has what the network can halve three times.
    volumes, _, patch = gradient_shares.preprocessed_volumes("4", 200)
    assert all(length % 8 == 0 for length in patch)
    assert all(np.greater_equal(volume.labels.shape, patch).all() for volume in volumes)
    batch = gradient_shares._batch(volumes, patch, np.random.default_rng(0))
    assert [target.shape[2:] for target in batch.targets] == [
        tuple(length // scale for length in patch) for scale in (1, 2, 4)
    ]
