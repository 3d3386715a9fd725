"""Every loss equals its slow reference, over random blobs."""

import loss_problems
import pytest
import references
import torch

from nnunet_rw.losses import LOSSES, build, option_names

OPTIONS = {
    "rrw": [{}, {"include_background": False}],
    "boundary": [{}, {"inside_offset": 0.4}, {"include_background": True}],
    "active_contour": [{"length_weight": 0.3}, {"include_background": False}],
    "gsl": [{}, {"include_background": True}],
    "hausdorff_dt": [
        {},
        {"alpha": 1.3, "include_background": True},
        {"inside_only": True},
        {"most_probable": True},
        {"inside_only": True, "most_probable": True, "include_background": True},
    ],
    "hausdorff_er": [{}, {"alpha": 1.5, "erosions": 2}, {"include_background": True}],
    "hausdorff_cv": [{}, {"alpha": 1.5, "radii": (0.5, 1.4, 2.5, 4)}, {"radii": (1.5, 3), "include_background": True}],
    "fuzzy_rough": [{}, {"alpha": 3.0}, {"include_background": True}],
    "fuzzy_rough_dual": [{}, {"alpha": 3.0}, {"include_background": True}],
    "blob": [{}, {"squared": False}],
    "cc_dice_ce": [{}, {"smooth": 0.4, "ce_weight": 0.3}],
    "dice": [{}, {"squared": False, "smooth": 0.3, "include_background": True}, {"batch_dice": True}],
    "asl": [{"beta": 1.7}, {"beta": 0.6, "linear": True, "batch_dice": True}],
    "focal_tversky": [
        {},
        {"alpha": 0.9, "beta": 0.2, "gamma": 2, "smooth": 0.3},
        {"batch_dice": True, "include_background": True},
    ],
    "gdl": [{}, {"linear": True}, {"include_background": False}],
    "focal_gdl_bce": [{}, {"gamma": 2, "bce_weight": 0.3, "linear": True}, {"include_background": False}],
    "ce": [{}],
    "wce": [{}, {"include_background": True}, {"class_weights": (0.5, 3.0, 1.7)}],
    "topk": [{}, {"k": 35}, {"k": 0.1}],
    "focal": [{"alpha": 0.6, "gamma": 1.5}, {"include_background": True}],
    "softmax_focal": [{}, {"gamma": 1.3}],
}
WEIGHTINGS = [{}, {"w_min": 0.1, "power": 0.5}, {"normalise": True}]


def test_no_loss_is_forgotten():
    assert set(OPTIONS) == set(LOSSES)


def problems():
    """Every loss with every option; its defaults with every weighting, the other options with one of them."""
    for name, loss in LOSSES.items():
        for number, options in enumerate(OPTIONS[name]):
            weightings = [None]
            if "reweight" in option_names(loss):
                weightings += WEIGHTINGS[number % 3 :][:1] if number else WEIGHTINGS
            for weighting in weightings:
                described = [f"{option}={choice}" for option, choice in {**options, **(weighting or {})}.items()]
                weighted = [] if weighting is None else ["weighted"]
                yield pytest.param(name, options, weighting, id=" ".join([name, *weighted, *described]))


# Each of them once with each of the others.
@pytest.mark.parametrize(
    ("shape", "regions", "ignore"),
    [((7, 6, 5), False, True), ((7, 6, 5), True, False), ((9, 8), False, False), ((9, 8), True, True)],
    ids=["3D classes ignore", "3D regions", "2D classes", "2D regions ignore"],
)
@pytest.mark.parametrize(("name", "options", "weighting"), list(problems()))
def test_equals_the_slow_reference(name, options, weighting, shape, regions, ignore):
    logits, target, heads = loss_problems.random_problem(shape, regions, ignore)
    if regions and "class_weights" in options:
        options = {"class_weights": options["class_weights"][1:]}
    spacing = loss_problems.SPACING_MM[: len(shape)]
    weighted = {} if weighting is None else {"reweight": "inverse_volume", **weighting}
    loss = build(name, **heads, **options, **weighted)
    computed = loss(torch.from_numpy(logits), torch.from_numpy(target), None, spacing).item()
    reference = references.LossReference(logits, target, spacing, **heads, weighting=weighting)
    expected = getattr(reference, name)(**options)
    assert expected != 0
    # Maps, weights and distances are float32.
    assert computed == pytest.approx(expected, rel=1e-5)
