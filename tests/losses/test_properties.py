"""What every loss of `LOSSES` must do, weighted by lesion size or not, with classes and with regions."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import references
import torch
from loss_problems import GROUPS, IGNORE, SPACING_MM, losses

from nnunet_rw.losses import LOSSES, build, option_names
from nnunet_rw.maps.kinds import LESION_IDS, LabelScheme, compute_distances, compute_lesion_ids, stored_kinds
from nnunet_rw.store.layout import lesion_table_tensor

NUM_CLASSES = 3


every_loss = pytest.mark.parametrize(("name", "options"), losses())
# Where weights can make no difference.
every_loss_unweighted = pytest.mark.parametrize("name", LOSSES)
classes_and_regions = pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])


def target_of(labels, regions, ignore=False):
    """nnU-Net's target of (B, X, Y[, Z]) labels: labels, or one channel per region and, if any, one of ignored."""
    if not regions:
        return torch.from_numpy(labels[:, None].astype(np.int64))
    channels = [np.isin(labels, group) for group in GROUPS] + ([labels == IGNORE] if ignore else [])
    return torch.from_numpy(np.stack(channels, 1).astype(np.float32))


def blobs(shape, batch=2, num_classes=NUM_CLASSES, seed=0):
    return np.stack([references.random_blobs(shape, num_classes, seed + sample) for sample in range(batch)])


def random_logits(labels, regions, seed=0, dtype=torch.float32):
    heads = len(GROUPS) if regions else NUM_CLASSES
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn((len(labels), heads, *labels.shape[1:]), generator=generator, dtype=dtype)


def confident_logits(target, regions, scale):
    """Logits that are right by a margin of 2 * scale."""
    if regions:
        return scale * (2 * target - 1)
    onehot = torch.cat([target == c for c in range(NUM_CLASSES)], 1).float()
    return scale * (2 * onehot - 1)


def heads(regions, ignore=False):
    return {"regions": regions, "ignore_label": IGNORE if ignore else None}


def loss_and_gradient(loss, logits, target, **kwargs):
    logits = logits.clone().requires_grad_()
    value = loss(logits, target, **kwargs)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


@every_loss
@pytest.mark.parametrize("ignore_label", [-100, -1])
def test_any_integer_may_say_that_a_voxel_is_ignored(name, options, ignore_label):
    labels = blobs((6, 7, 5), seed=3).astype(int)
    labels[:, 2:4, 3] = IGNORE
    other = np.where(labels == IGNORE, ignore_label, labels)
    logits = random_logits(labels, regions=False)
    expected = loss_and_gradient(build(name, **heads(False, True), **options), logits, target_of(labels, False))
    loss = build(name, ignore_label=ignore_label, **options)
    for got, wanted in zip(loss_and_gradient(loss, logits, target_of(other, False)), expected, strict=True):
        torch.testing.assert_close(got, wanted)


@classes_and_regions
@every_loss
def test_gradient_is_that_of_finite_differences(name, options, regions):
    labels = blobs((2, 3, 3), seed=1)
    labels[:, 0, 0] = IGNORE
    loss = build(name, **heads(regions, ignore=True), **options)
    target = target_of(labels, regions, ignore=True)
    logits = random_logits(labels, regions, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda values: loss(values, target, spacing=SPACING_MM), logits)


@classes_and_regions
@every_loss
def test_better_prediction_gives_lower_loss(name, options, regions):
    target = target_of(blobs((10, 9, 8)), regions)
    loss = build(name, regions=regions, **options)
    # Errors that do not survive an erosion cost nothing: that loss is 0 from an undecided prediction on.
    scales = (-3, -2, -1, 0) if name == "hausdorff_er" else (-3, -1, 0, 1, 3)
    values = [loss(confident_logits(target, regions, scale), target).item() for scale in scales]
    assert all(worse > better for worse, better in pairwise(values)), values


@every_loss
def test_a_small_step_against_the_gradient_lowers_the_loss(name, options):
    labels = blobs((10, 9, 8))
    logits, target = random_logits(labels, False), target_of(labels, False)
    loss = build(name, **options)
    value, gradient = loss_and_gradient(loss, logits, target)
    assert loss(logits - 0.01 * gradient / gradient.abs().max(), target) < value


@classes_and_regions
@every_loss
def test_logits_of_ignored_voxels_do_not_count(name, options, regions):
    labels = blobs((8, 7, 6))
    labels[:, :, 3:5] = IGNORE
    target, logits = target_of(labels, regions, ignore=True), random_logits(labels, regions)
    ignored = torch.from_numpy(labels == IGNORE)[:, None].expand_as(logits)
    other = torch.where(ignored, random_logits(labels, regions, seed=1), logits)
    loss = build(name, **heads(regions, ignore=True), **options)
    value, gradient = loss_and_gradient(loss, logits, target, spacing=SPACING_MM)
    torch.testing.assert_close(loss(other, target, spacing=SPACING_MM), value)
    assert not gradient[ignored].any()
    assert gradient[~ignored].any()


@every_loss
def test_labels_of_ignored_voxels_do_not_count_in_regions(name, options):
    labels = blobs((8, 7, 6))
    labels[:, :, 3:5] = IGNORE
    target, logits = target_of(labels, True, ignore=True), random_logits(labels, True)
    other = target.clone()
    other[:, :-1] += other[:, -1:]  # every region in every ignored voxel
    loss = build(name, **heads(True, ignore=True), **options)
    torch.testing.assert_close(loss(logits, other), loss(logits, target))


@classes_and_regions
@every_loss
def test_ignore_label_that_does_not_occur_changes_nothing(name, options, regions):
    labels = blobs((8, 7, 6))
    logits = random_logits(labels, regions)
    without = build(name, **heads(regions), **options)(logits, target_of(labels, regions))
    prepared = build(name, **heads(regions, ignore=True), **options)(logits, target_of(labels, regions, ignore=True))
    torch.testing.assert_close(prepared, without)


@every_loss
def test_regions_are_independent_heads(name, options):
    # They overlap, and each is a two-class problem of its own: the loss is the mean over the heads.
    labels = blobs((8, 7, 6))
    logits, target = random_logits(labels, True), target_of(labels, True)
    loss = build(name, regions=True, **options)
    alone = [loss(logits[:, [head]], target[:, [head]]) for head in range(len(GROUPS))]
    torch.testing.assert_close(loss(logits, target), torch.stack(alone).mean())


@classes_and_regions
@every_loss
def test_one_slice_is_two_dimensional(name, options, regions):
    labels = blobs((12, 11), num_classes=NUM_CLASSES)
    logits, target = random_logits(labels, regions), target_of(labels, regions)
    loss = build(name, regions=regions, **options)
    flat = loss(logits, target, spacing=SPACING_MM[:2])
    for thickness in (0.1, 30.0):
        thin = loss(logits[..., None], target[..., None], spacing=(*SPACING_MM[:2], thickness))
        torch.testing.assert_close(thin, flat)


# Their formula counts over the batch: terms above 0, predicted voxels, the worst voxels, samples with lesions.
OVER_THE_BATCH = ("fuzzy_rough", "fuzzy_rough_dual", "wce", "topk", "blob")


@classes_and_regions
@every_loss
def test_a_sample_given_twice_counts_once(name, options, regions):
    labels = blobs((10, 8, 5), batch=1)  # 10 % of it are a whole number of voxels
    logits, target = random_logits(labels, regions), target_of(labels, regions)
    loss = build(name, regions=regions, **options)
    torch.testing.assert_close(loss(torch.cat([logits] * 2), torch.cat([target] * 2)), loss(logits, target))


@classes_and_regions
@pytest.mark.parametrize(("name", "options"), losses(without=OVER_THE_BATCH))
def test_samples_are_independent(name, options, regions):
    labels = blobs((8, 7, 6), batch=3)
    labels[1] = 0  # so that the samples' numbers of lesions differ
    logits, target = random_logits(labels, regions), target_of(labels, regions)
    loss = build(name, regions=regions, **options)
    alone = [loss(logits[[b]], target[[b]], spacing=SPACING_MM) for b in range(3)]
    torch.testing.assert_close(loss(logits, target, spacing=SPACING_MM), torch.stack(alone).mean())


@classes_and_regions
@pytest.mark.parametrize(("name", "options"), losses(without=(*OVER_THE_BATCH, "hausdorff_cv")))  # its balls are shared
def test_every_sample_may_have_a_spacing_of_its_own(name, options, regions):
    labels = blobs((8, 7, 6))
    logits, target = random_logits(labels, regions), target_of(labels, regions)
    rows = torch.tensor([SPACING_MM, (0.5, 3.0, 1.0)])
    loss = build(name, regions=regions, **options)
    alone = [loss(logits[[b]], target[[b]], spacing=rows[b].tolist()) for b in range(2)]
    torch.testing.assert_close(loss(logits, target, spacing=rows), torch.stack(alone).mean())


def degenerate_labels(kind):
    labels = np.zeros((2, 6, 5, 4), np.uint8)
    if kind == "full":
        labels[:] = 1
    elif kind == "absent class":
        labels[:, :3, :3] = 2
    elif kind == "one voxel":
        labels[0, 2, 3, 1] = labels[1, 0, 0, 0] = 1
    elif kind == "nearly full":
        labels[:] = 2
        labels[:, 5, 4, 3] = 0
    elif kind == "one sample empty":
        labels[1] = blobs((6, 5, 4), batch=1)[0]
    elif kind == "ignored":
        labels[:] = IGNORE
    elif kind == "one sample ignored":
        labels[0] = IGNORE
        labels[1] = blobs((6, 5, 4), batch=1)[0]
    elif kind == "one voxel known":
        labels[:] = IGNORE
        labels[:, 2, 3, 1] = 1
    return labels


KINDS = [
    "empty",
    "full",
    "absent class",
    "one voxel",
    "nearly full",
    "one sample empty",
    "ignored",
    "one sample ignored",
    "one voxel known",
]


@classes_and_regions
@every_loss
def test_degenerate_patches_give_finite_losses_and_gradients(name, options, regions):
    loss = build(name, **heads(regions, ignore=True), **options)
    for kind in KINDS:
        labels = degenerate_labels(kind)
        target = target_of(labels, regions, ignore=True)
        for logits in (random_logits(labels, regions), torch.zeros_like(random_logits(labels, regions))):
            value, gradient = loss_and_gradient(loss, logits, target, spacing=SPACING_MM)
            assert value.isfinite(), kind
            assert gradient.isfinite().all(), kind
            assert kind != "ignored" or not gradient.any()


WEIGHTINGS = [
    {"scope": scope, "power": power, "w_min": w_min, "w_max": w_max, "normalise": normalise}
    for scope in ("patch", "case")
    for power, w_min, w_max in ((1.0, 1.0, 2e5), (0.5, 0.0, 2e5), (1.0, 0.01, 10.0))
    for normalise in (False, True)
]


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if "reweight" in option_names(loss)])
def test_weights_leave_a_patch_without_lesions_as_it_is(name):
    # So false positives cost there what they cost without weights.
    labels = np.zeros((2, 6, 5, 4), np.uint8)
    logits, target = random_logits(labels, False), target_of(labels, False)
    unweighted = build(name)(logits, target)
    for weighting in WEIGHTINGS:
        weighted = build(name, reweight="inverse_volume", **weighting)
        torch.testing.assert_close(weighted(logits, target), unweighted)


# Losses whose definition says nothing about a class that is not there; they are added to one that does.
SILENT_WITHOUT_LESIONS = ("boundary", "gsl", "fuzzy_rough", "blob")


@pytest.mark.parametrize(("name", "options"), losses(without=SILENT_WITHOUT_LESIONS))
def test_false_positives_in_a_patch_without_lesions_cost(name, options):
    labels = np.zeros((1, 6, 5, 4), np.uint8)
    target = target_of(labels, False)
    smooth = {"smooth": 1e-5} if "smooth" in option_names(LOSSES[name]) else {}  # as the trainers set it
    loss = build(name, **options, **smooth)
    clean, false = torch.zeros(1, NUM_CLASSES, 6, 5, 4), torch.zeros(1, NUM_CLASSES, 6, 5, 4)
    clean[:, 0] = false[:, 0] = 8
    false[:, 1, :, 1:4, 1:3] = 16
    assert loss(false, target) > loss(clean, target)


@classes_and_regions
@every_loss
def test_tiny_outputs_of_deep_supervision(name, options, regions):
    for shape, label in product([(1, 1, 1), (1, 2, 1), (1, 1), (2, 2, 2)], (0, 1)):
        labels = np.full((1, *shape), label)
        logits = random_logits(labels, regions)
        value, gradient = loss_and_gradient(build(name, regions=regions, **options), logits, target_of(labels, regions))
        assert value.isfinite()
        assert gradient.isfinite().all()


@classes_and_regions
@every_loss
def test_extreme_logits_in_half_precision(name, options, regions):
    labels = blobs((8, 7, 6))
    target = target_of(labels, regions)
    logits = (30 * random_logits(labels, regions).sign()).half()
    loss = build(name, regions=regions, **options)
    value, gradient = loss_and_gradient(loss, logits, target)
    assert value.dtype == torch.float32
    assert gradient.dtype == torch.float16
    assert value.isfinite()
    assert gradient.isfinite().all()
    torch.testing.assert_close(value.double(), loss(logits.double(), target), rtol=1e-4, atol=1e-5)


@classes_and_regions
@every_loss
def test_float32_agrees_with_float64(name, options, regions):
    labels = blobs((8, 7, 6))
    logits, target = random_logits(labels, regions), target_of(labels, regions)
    loss = build(name, regions=regions, **options)
    value, gradient = loss_and_gradient(loss, logits, target, spacing=SPACING_MM)
    exact, exact_gradient = loss_and_gradient(loss, logits.double(), target, spacing=SPACING_MM)
    assert (value.dtype, exact.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-3, atol=1e-7)


def maps_of(labels, regions, kinds):
    """Maps of (B, X, Y, Z) labels as the store and the loader would hand them over."""
    scheme = LabelScheme(GROUPS, regions=True) if regions else LabelScheme.classes(NUM_CLASSES)
    maps = {}
    for kind in stored_kinds(kinds, scheme):
        if kind == LESION_IDS:
            found = [compute_lesion_ids(sample, scheme) for sample in labels]
            maps[LESION_IDS] = torch.from_numpy(np.stack([ids for ids, _ in found]).astype(np.float32))
            tables = [lesion_table_tensor(table).T for _, table in found]
            padded = torch.nn.utils.rnn.pad_sequence(tables, batch_first=True)
            maps["lesion_table"] = padded.transpose(1, 2)
        else:
            distances = [compute_distances(kind, sample, scheme, SPACING_MM) for sample in labels]
            maps[kind] = torch.from_numpy(np.stack(distances))
    return maps


@classes_and_regions
@every_loss
def test_maps_given_equal_maps_computed(name, options, regions):
    labels = blobs((8, 7, 6))
    labels[0] = 0
    logits, target = random_logits(labels, regions), target_of(labels, regions)
    loss = build(name, regions=regions, **options)
    computed = loss(logits, target, spacing=SPACING_MM)
    maps = maps_of(labels, regions, loss.kinds)
    torch.testing.assert_close(loss(logits, target, maps, SPACING_MM), computed)
    assert loss(logits, target, {}, spacing=SPACING_MM) == computed


@classes_and_regions
@pytest.mark.parametrize(
    ("name", "options"), [row for row in losses() if "boundary_distance" in LOSSES[row.values[0]].kinds]
)
def test_the_sign_of_distances_that_are_given_does_not_matter(name, options, regions):
    labels = blobs((8, 7, 6))
    logits, target = random_logits(labels, regions), target_of(labels, regions)
    loss = build(name, regions=regions, **options)
    maps = maps_of(labels, regions, loss.kinds)
    signs = torch.randint(0, 2, logits.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    signed = {kind: signs * values if kind.endswith("distance") else values for kind, values in maps.items()}
    assert loss(logits, target, signed) == loss(logits, target, maps)


@every_loss
def test_distances_in_half_precision_do(name, options):
    labels = blobs((8, 7, 6))
    logits, target = random_logits(labels, False), target_of(labels, False)
    loss = build(name, **options)
    maps = maps_of(labels, False, loss.kinds)
    stored = {kind: values.half() if kind.endswith("distance") else values for kind, values in maps.items()}
    torch.testing.assert_close(loss(logits, target, stored), loss(logits, target, maps), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("given", [False, True], ids=["maps computed", "maps given"])
@classes_and_regions
@every_loss
def test_inputs_are_unchanged(name, options, regions, given):
    labels = blobs((8, 7, 6))
    labels[:, :, 3] = IGNORE
    loss = build(name, **heads(regions, ignore=True), **options)
    tensors = {"logits": random_logits(labels, regions), "target": target_of(labels, regions, ignore=True)}
    maps = maps_of(np.where(labels == IGNORE, 0, labels), regions, loss.kinds) if given else {}
    before = {key: values.clone() for key, values in (tensors | maps).items()}
    kinds = set(maps)
    loss(tensors["logits"], tensors["target"], maps)
    assert set(maps) == kinds
    for key, values in (tensors | maps).items():
        assert torch.equal(values, before[key]), key


@every_loss
def test_type_of_the_target_does_not_matter(name, options):
    labels = blobs((8, 7, 6))
    logits, target = random_logits(labels, False), target_of(labels, False)
    loss = build(name, **options)
    for dtype in (torch.uint8, torch.int16, torch.float32):
        assert loss(logits, target.to(dtype)) == loss(logits, target)
    logits, target = random_logits(labels, True), target_of(labels, True)
    loss = build(name, regions=True, **options)
    for dtype in (torch.bool, torch.uint8, torch.int64):
        assert loss(logits, target.to(dtype)) == loss(logits, target)


@every_loss
def test_layout_in_memory_does_not_matter(name, options):
    labels = blobs((8, 7, 6))
    logits, target = random_logits(labels, False), target_of(labels, False)
    loss = build(name, **options)
    channels_last = logits.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(loss(channels_last, target), loss(logits, target))
    swapped = loss(logits.transpose(2, 4), target.transpose(2, 4), spacing=SPACING_MM[::-1])
    torch.testing.assert_close(swapped, loss(logits, target, spacing=SPACING_MM))


@every_loss_unweighted
def test_targets_that_do_not_fit(name):
    logits = torch.zeros(2, NUM_CLASSES, 5, 4, 3)
    loss = build(name)
    for shape in [(2, 5, 4, 3), (2, NUM_CLASSES, 5, 4, 3), (1, 1, 5, 4, 3), (2, 1, 5, 4, 4), (2, 1, 5, 4)]:
        with pytest.raises(ValueError, match=r"target of shape \(2, 1, 5, 4, 3\) for logits of shape"):
            loss(logits, torch.zeros(shape, dtype=torch.long))
    loss = build(name, regions=True, ignore_label=IGNORE)
    with pytest.raises(ValueError, match=r"target of shape \(2, 4, 5, 4, 3\)"):
        loss(logits, torch.zeros(2, 3, 5, 4, 3))


@pytest.mark.parametrize("label", [NUM_CLASSES, -1])
@every_loss_unweighted
def test_labels_without_a_head(name, label):
    target = torch.zeros(1, 1, 5, 4, 3, dtype=torch.long)
    target[0, 0, 2, 2, 2] = label
    with pytest.raises(ValueError, match=rf"labels from 0 to 2 for 3 heads, but got {label}"):
        build(name)(torch.zeros(1, NUM_CLASSES, 5, 4, 3), target)


@every_loss
def test_maps_that_do_not_fit(name, options):
    labels = blobs((8, 7, 6))
    logits, target = random_logits(labels, False), target_of(labels, False)
    loss = build(name, **options)
    for kind in loss.kinds:
        maps = maps_of(labels, False, loss.kinds)
        for wrong in (maps[kind][..., :-1], maps[kind][:1], maps[kind].repeat(1, 5, 1, 1, 1), maps[kind][0]):
            with pytest.raises(ValueError, match=rf"Expected a {kind} map of shape"):
                loss(logits, target, {**maps, kind: wrong})


@every_loss
def test_under_autocast_the_loss_is_float32(name, options):
    labels = blobs((8, 7, 6))
    logits, target = random_logits(labels, False), target_of(labels, False)
    loss = build(name, **options)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits, target))


@every_loss
def test_formula_is_one_line(name, options):
    formula = build(name, **options).formula()
    assert formula
    assert "\n" not in formula


@pytest.mark.slow
@every_loss
def test_a_whole_patch_of_extreme_logits_under_autocast(name, options):
    # Sums over 128^3 voxels overflow float16 and lose digits in bfloat16; logits of 30 saturate the softmax.
    labels = np.zeros((1, 128, 128, 128), np.uint8)
    labels[0, 20:60, 20:60, 20:60] = 1
    labels[0, 90:93, 90:93, 90] = 2
    labels[0, 120, 5, 5] = 1
    target = target_of(labels, False)
    logits = (30 * random_logits(labels, False).sign()).half()
    loss = build(name, **options)
    for device_dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", device_dtype):
            value, gradient = loss_and_gradient(loss, logits, target, spacing=SPACING_MM)
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ce", {"reweight": "inverse_volume", "power": -1.0}),
        ("active_contour", {"length_weight": -1.0}),
        ("focal", {"gamma": -1.0}),
        ("softmax_focal", {"gamma": math.nan}),
        ("wce", {"class_weights": (1, -1)}),
        ("dice", {"smooth": -1.0}),
        ("asl", {"beta": 0.0, "linear": True}),
        ("hausdorff_dt", {"alpha": -1.0}),
        ("hausdorff_er", {"alpha": -1.0}),
        ("hausdorff_cv", {"alpha": math.inf}),
        ("fuzzy_rough", {"alpha": 0.0}),
        ("focal_gdl_bce", {"bce_weight": -1.0}),
        ("cc_dice_ce", {"ce_weight": -1.0}),
    ],
)
def test_options_that_turn_a_loss_around_are_refused(name, options):
    # Where there are two, one that lets the other be given.
    refused = set(options) - {"reweight", "linear"}
    with pytest.raises(ValueError, match=f"Expected {refused.pop()} "):
        build(name, **options)
