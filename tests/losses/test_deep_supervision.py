import numpy as np
import pytest
import references
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from torch import nn

from nnunet_rw.losses import build
from nnunet_rw.losses.compound import CompoundLoss, MappedLoss, StockLoss, resample_maps
from nnunet_rw.maps.kinds import LabelScheme, compute_distances, compute_lesion_ids
from nnunet_rw.store.layout import lesion_table_tensor

SPACING_MM = (1.5, 0.7, 2.0)
SCALES = [
    (1, 1, 1),
    (1, 0.5, 0.5),
    (0.5, 0.25, 0.25),
]  # the first axis is pooled later, as nnU-Net does where it is thick
SCALE_WEIGHTS = (0.6, 0.3, 0.1)
NUM_CLASSES = 3
REWEIGHTED = {"reweight": "inverse_volume", "scope": "case"}


@pytest.fixture(scope="module")
def batch():
    """Outputs and targets on three scales, and the maps of the first."""
    labels = np.stack([references.random_blobs((6, 12, 10), NUM_CLASSES, seed) for seed in (1, 2)])
    scheme = LabelScheme.classes(NUM_CLASSES)
    found = [compute_lesion_ids(sample, scheme) for sample in labels]
    tables = [lesion_table_tensor(table).T for _, table in found]
    maps = {
        "lesion_ids": torch.from_numpy(np.stack([ids for ids, _ in found]).astype(np.float32)),
        "lesion_table": nn.utils.rnn.pad_sequence(tables, batch_first=True).transpose(1, 2),
    }
    for kind in ("interior_distance", "boundary_distance"):
        distances = [compute_distances(kind, sample, scheme, SPACING_MM) for sample in labels]
        maps[kind] = torch.from_numpy(np.stack(distances))
    downsampled = [DownsampleSegForDSTransform(SCALES)(segmentation=torch.from_numpy(s[None])) for s in labels]
    targets = [torch.stack(scale) for scale in zip(*(sample["segmentation"] for sample in downsampled), strict=True)]
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn((2, NUM_CLASSES, *target.shape[2:]), generator=generator) for target in targets]
    return outputs, targets, maps


def compound():
    terms = [("rrw", 0.7), ("ce", 0.5, REWEIGHTED), ("boundary", 0.1), ("dice", "gradual_region")]
    return build("compound", terms=terms)


def mapped(maps, scale_weights=SCALE_WEIGHTS):
    loss = MappedLoss(compound(), scale_weights)
    loss.maps = maps
    return loss


@pytest.mark.parametrize("kind", ["interior_distance", "lesion_ids"])
@pytest.mark.parametrize(
    ("shape", "scales"),
    [
        ((6, 12, 10), SCALES),
        ((20, 13, 9), [(1, 1, 1), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)]),
        ((15, 14), [(1, 1), (0.5, 0.5), (0.25, 0.25)]),
    ],
)
def test_maps_are_taken_from_the_voxels_that_the_target_is_taken_from(shape, scales, kind):
    # Every voxel has a number of its own, so equal numbers are equal voxels.
    numbered = torch.arange(float(np.prod(shape))).reshape(1, *shape)
    targets = DownsampleSegForDSTransform(scales)(segmentation=numbered)["segmentation"]
    for target in targets:
        maps = resample_maps({kind: numbered[None]}, target.shape[1:])
        torch.testing.assert_close(maps[kind][0], target, rtol=0, atol=0)


def test_the_lesion_table_is_of_no_scale(batch):
    _, targets, maps = batch
    resampled = resample_maps(maps, targets[2].shape[2:])
    assert resampled["lesion_table"] is maps["lesion_table"]
    assert resampled["boundary_distance"].shape == (2, NUM_CLASSES, *targets[2].shape[2:])
    assert resample_maps(maps, targets[0].shape[2:])["boundary_distance"] is maps["boundary_distance"]


def test_three_scales_are_the_weighted_sum_by_hand(batch):
    outputs, targets, maps = batch
    loss = mapped(maps)
    expected = 0.0
    for weight, logits, target in zip(SCALE_WEIGHTS, outputs, targets, strict=True):
        of_scale = resample_maps(maps, logits.shape[2:])
        expected += weight * (
            0.7 * build("rrw")(logits, target, of_scale)
            + 0.5 * build("ce", **REWEIGHTED)(logits, target, of_scale)
            + 0.1 * build("boundary")(logits, target, of_scale)
            + 1.0 * build("dice")(logits, target, of_scale)
        )
    torch.testing.assert_close(loss(outputs, targets), expected)


def test_distances_keep_their_unit_on_every_scale(batch):
    # Probability 1 of class 1 everywhere: the boundary loss is the mean of its signed map, about the same on every
    # scale.
    _, targets, maps = batch
    values = []
    for target in targets:
        logits = torch.zeros(2, NUM_CLASSES, *target.shape[2:])
        logits[:, 1] = 50
        values.append(build("boundary")(logits, target, resample_maps(maps, target.shape[2:])).item())
    signed = torch.where(targets[0][:, 0] == 1, -1, 1) * maps["boundary_distance"][:, 1]
    assert values[0] == pytest.approx(signed.mean().item() / 2, rel=1e-5)
    assert values[1:] == pytest.approx([values[0]] * 2, rel=0.3)


def test_a_scale_of_weight_zero_is_not_computed(batch):
    outputs, targets, maps = batch
    nothing = [*outputs[:2], torch.full_like(outputs[2], float("nan"))]
    loss = mapped(maps, (0.6, 0.4, 0))
    expected = mapped(maps, (0.6, 0.4))(outputs[:2], targets[:2])
    torch.testing.assert_close(loss(nothing, targets), expected)
    assert np.isfinite(list(loss.pop_term_means().values())).all()


@pytest.mark.parametrize(("num_outputs", "num_targets"), [(2, 3), (3, 2), (2, 2)])
def test_numbers_of_scales_that_differ_are_an_error(batch, num_outputs, num_targets):
    outputs, targets, maps = batch
    with pytest.raises(ValueError, match=r"zip\(\) argument"):
        mapped(maps)(outputs[:num_outputs], targets[:num_targets])


def test_one_output_without_deep_supervision(batch):
    outputs, targets, maps = batch
    loss = mapped(maps, scale_weights=None)
    torch.testing.assert_close(loss(outputs[0], targets[0]), compound()(outputs[0], targets[0], maps))
    assert set(loss.pop_term_means()) == {"rrw", "ce", "boundary", "dice"}


def test_gradient_reaches_every_output(batch):
    outputs, targets, maps = batch
    outputs = [output.clone().requires_grad_() for output in outputs]
    mapped(maps)(outputs, targets).backward()
    assert all(output.grad.isfinite().all() and output.grad.any() for output in outputs)


def test_maps_of_the_batch_stay_as_they_are(batch):
    outputs, targets, maps = batch
    loss = mapped({"interior_distance": maps["interior_distance"]})
    before = maps["interior_distance"].clone()
    # The maps that are missing are computed for the call, and are not left behind for the next batch.
    loss(outputs, targets)
    assert list(loss.maps) == ["interior_distance"]
    assert torch.equal(maps["interior_distance"], before)


def test_term_means(batch):
    # The mean over the calls of the weighted sum over the scales, before the terms' weights.
    outputs, targets, maps = batch
    loss = mapped(maps)
    calls = [outputs, [2 * output for output in outputs]]
    for call in calls:
        loss([output.clone().requires_grad_() for output in call], targets)
    expected = {}
    for name, options in (("rrw", {}), ("ce", REWEIGHTED), ("boundary", {}), ("dice", {})):
        term = build(name, **options)
        of_calls = [
            sum(
                weight * term(logits, target, resample_maps(maps, logits.shape[2:])).item()
                for weight, logits, target in zip(SCALE_WEIGHTS, call, targets, strict=True)
            )
            for call in calls
        ]
        expected[name] = np.mean(of_calls)
    assert loss.pop_term_means() == pytest.approx(expected, rel=1e-5)
    assert loss.pop_term_means() == {}
    loss(outputs, targets)  # the earlier calls are forgotten
    assert loss.pop_term_means()["rrw"] != pytest.approx(expected["rrw"], rel=1e-3)


def test_half_precision_outputs_give_a_float32_loss(batch):
    outputs, targets, maps = batch
    value = mapped(maps)([output.detach().half() for output in outputs], targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, mapped(maps)(outputs, targets), rtol=1e-2, atol=1e-3)


def test_stock_loss_sees_what_nnunet_hands_over(batch):
    outputs, targets, _ = batch

    class Stock(nn.Module):
        def forward(self, logits, target):
            assert logits is outputs[0]
            assert target is targets[0]
            return logits.square().mean()

    stock = StockLoss(Stock())
    assert stock.kinds == ()
    assert stock.formula() == "Stock"
    loss = MappedLoss(CompoundLoss([("nnunet", 2.0, stock), ("ce", 1.0, build("ce"))]))
    expected = 2 * outputs[0].square().mean() + build("ce")(outputs[0], targets[0])
    torch.testing.assert_close(loss(outputs[0], targets[0]), expected)


def test_maps_that_did_not_come_are_computed_from_the_first_target(batch):
    outputs, targets, maps = batch
    carried = mapped(maps)(outputs, targets)
    computed = MappedLoss(compound(), SCALE_WEIGHTS, SPACING_MM)
    torch.testing.assert_close(computed(outputs, targets), carried)
    assert computed.maps == {}


def test_every_scale_has_the_spacing_of_its_voxels(batch):
    outputs, targets, maps = batch
    loss = compound()
    seen = []
    loss.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[3]))
    bound = MappedLoss(loss, SCALE_WEIGHTS, SPACING_MM)
    bound.maps = maps
    bound(outputs, targets)
    np.testing.assert_allclose(seen, [(1.5, 0.7, 2.0), (1.5, 1.4, 4.0), (3.0, 2.8, 10.0)])  # 10 voxels become 2


def test_every_sample_has_a_spacing_of_its_own_on_every_scale(batch):
    # Plans that do not resample: the loader hands over one row of mm per sample.
    outputs, targets, _ = batch
    rows = torch.tensor([SPACING_MM, (1.0, 2.0, 0.5)])
    loss = compound()
    seen = []
    loss.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[3]))
    value = MappedLoss(loss, SCALE_WEIGHTS, rows)(outputs, targets)
    expected = [
        [(1.5, 0.7, 2.0), (1.0, 2.0, 0.5)],
        [(1.5, 1.4, 4.0), (1.0, 4.0, 1.0)],
        [(3.0, 2.8, 10.0), (2.0, 8.0, 2.5)],
    ]
    np.testing.assert_allclose(torch.stack(seen), expected, rtol=1e-6)
    # Its terms are means over samples, each as it is alone.
    alone = [
        MappedLoss(compound(), SCALE_WEIGHTS, rows[b].tolist())(
            [output[[b]] for output in outputs], [target[[b]] for target in targets]
        )
        for b in range(2)
    ]
    torch.testing.assert_close(value, torch.stack(alone).mean())


@pytest.mark.parametrize(("num_classes", "kind"), [(2, "interior_distance"), (3, "boundary_distance")])
def test_the_boundary_is_carried_as_the_map_that_serves_it(num_classes, kind):
    # On every scale the maps of the first are used: of two classes one channel.
    labels = np.stack([references.random_blobs((6, 12, 10), num_classes, seed) for seed in (1, 2)])
    scheme = LabelScheme.classes(num_classes)
    distances = [compute_distances(kind, sample, scheme, SPACING_MM) for sample in labels]
    target = torch.from_numpy(labels[:, None].astype(np.int64))
    targets = [target, target[..., ::2, ::2]]
    outputs = [torch.randn((2, num_classes, *scale.shape[2:])) for scale in targets]
    loss = MappedLoss(build("compound", terms=[("boundary",)]), (0.7, 0.3), SPACING_MM)
    computed = loss(outputs, targets)
    loss.maps = {kind: torch.from_numpy(np.stack(distances))}
    seen = []
    loss.loss.register_forward_pre_hook(lambda module, arguments: seen.append(list(arguments[2])))
    torch.testing.assert_close(loss(outputs, targets), computed)
    assert seen == [[kind], [kind]]
