"""Losses by name, their weighted sums, and weights that change from epoch to epoch."""

import re

import pytest
import torch
from loss_problems import IGNORE, ROW, P, logits_of, row, value

from nnunet_rw.losses import LOSSES, CompoundLoss, LossInputs, Term, build, build_compound, unique_names
from nnunet_rw.losses.compound import SCHEDULES, weight_at


class TestCompound:
    terms = (Term("dice", "gradual_region", {"squared": False}), ("rrw", "gradual_boundary"), ("ce", 0.25))

    def test_is_the_weighted_sum(self):
        loss = build("compound", terms=self.terms)
        logits, target = logits_of(P), row(ROW)
        dice, rrw, ce = value("dice", squared=False), value("rrw"), value("ce")
        for epoch, (region, boundary) in {0: (1, 0), 40: (0.6, 0.4), 250: (0.01, 0.99)}.items():
            loss.set_epoch(epoch, 300)
            expected = region * dice + boundary * rrw + 0.25 * ce
            assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)
        # The terms themselves, before their weights.
        assert {name: term.item() for name, term in loss.last_terms.items()} == pytest.approx(
            {"dice": dice, "rrw": rrw, "ce": ce}, rel=1e-6
        )
        assert not any(term.requires_grad for term in loss.last_terms.values())

    def test_needs_the_maps_of_its_terms(self):
        weighted = {"reweight": "inverse_volume"}
        loss = build("compound", terms=[("rrw",), ("dice", 1, weighted), ("ce", 1, weighted), ("boundary",)])
        assert loss.kinds == ("interior_distance", "lesion_ids", "boundary_distance")

    def test_terms_may_repeat(self):
        loss = build("compound", terms=[("dice", 0.5), ("dice", 2.0, {"squared": False})])
        expected = 0.5 * value("dice") + 2 * value("dice", squared=False)
        assert loss(logits_of(P), row(ROW)).item() == pytest.approx(expected, rel=1e-6)
        assert list(loss.last_terms) == ["dice", "dice_2"]
        assert unique_names(["ce", "dice", "ce", "ce"]) == ["ce", "dice", "ce_2", "ce_3"]

    def test_heads_hold_for_all_terms(self):
        target = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]])[None, :, None]
        logits = logits_of(P, regions=True)
        heads = {"regions": True, "ignore_label": IGNORE}
        compound = build("compound", terms=[("ce",), ("dice",)], **heads)(logits, target)
        alone = build("ce", **heads)(logits, target) + build("dice", **heads)(logits, target)
        torch.testing.assert_close(compound, alone)

    def test_schedules_of_a_compound_within_a_compound_move(self):
        inner = {"terms": [("dice", "gradual_region"), ("ce", "gradual_boundary")]}
        loss = build("compound", terms=[("compound", 2.0, inner)])
        loss.set_epoch(40, 300)
        expected = 2 * (0.6 * value("dice") + 0.4 * value("ce"))
        assert loss(logits_of(P), row(ROW)).item() == pytest.approx(expected, rel=1e-6)

    def test_a_compound_within_a_compound_has_nnunets_dice_as_well(self):
        of_dice = {"smooth": 1e-5, "batch_dice": True}
        inner = Term("compound", options={"terms": (("dice", 1.0), ("dice", 1.0, {"smooth": 0.5}))})
        loss = build_compound([Term("dice"), inner], of_dice=of_dice)
        nested = loss.terms["compound"].terms
        assert [(dice.smooth, dice.batch_dice) for dice in (loss.terms["dice"], nested["dice"], nested["dice_2"])] == [
            (1e-5, True),
            (1e-5, True),
            (0.5, True),
        ]

    def test_terms_that_weigh_alike_share_their_weights(self):
        loss = build(
            "compound", terms=[("ce", 1, {"reweight": "inverse_volume"}), ("dice", 1, {"reweight": "inverse_volume"})]
        )
        inputs = LossInputs(logits_of(P), row(ROW))
        loss.compute(inputs)
        assert len(inputs.shared) == 1

    def test_formula_names_every_term(self):
        formula = build("compound", terms=self.terms).formula()
        assert formula == (
            "gradual_region * dice[1 - 2 sum(w p y) / sum(w (p + y))] + "
            "gradual_boundary * rrw[mean(p z), z = -D / max D inside, +1 outside] + 0.25 * ce[mean(CE)]"
        )

    def test_errors(self):
        with pytest.raises(ValueError, match=r"terms with names that differ, but got \[\]"):
            build("compound")
        dice = build("dice")
        with pytest.raises(ValueError, match=r"names that differ, but got \['dice', 'dice'\]"):
            CompoundLoss([("dice", 1, dice), ("dice", 1, dice)])


class TestSchedules:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            # In the 300 epochs of the paper: max((100 - epoch) / 100, 0.01).
            ("gradual_region", (1, 0.6, 0.01, 0.01, 0.01)),
            ("gradual_boundary", (0, 0.4, 0.99, 0.99, 0.99)),
            ("rebalance_region", (0.99, 0.59, 0.01, 0.01, 0.01)),
            ("rebalance_boundary", (0.01, 0.41, 0.99, 0.99, 0.99)),
            ("increase_boundary", (0.01, 0.41, 1.00, 1.01, 2.51)),
            # A fifth are 60 epochs.
            ("ramp_up", (0, 2 / 3, 1, 1, 1)),
        ],
    )
    def test_values(self, name, values):
        computed = [weight_at(name, epoch, 300) for epoch in (0, 40, 99, 100, 250)]
        assert computed == pytest.approx(values, abs=1e-12)

    def test_rising_and_falling_span_the_training(self):
        assert [weight_at("rising", epoch, 5) for epoch in range(5)] == pytest.approx([0.01, 0.255, 0.5, 0.745, 0.99])
        assert [weight_at("falling", epoch, 5) for epoch in range(5)] == pytest.approx([0.99, 0.745, 0.5, 0.255, 0.01])
        assert weight_at("rising", 0, 1) == 0.01

    @pytest.mark.parametrize("name", ["gradual_region", "gradual_boundary", "ramp_up"])
    def test_depend_on_the_share_of_the_training(self, name):
        assert weight_at(name, 3, 30) == pytest.approx(weight_at(name, 100, 1000))

    @pytest.mark.parametrize("name", ["rebalance_region", "rebalance_boundary", "increase_boundary"])
    def test_those_of_kervadec_count_epochs(self, name):
        assert weight_at(name, 3, 30) == weight_at(name, 3, 1000)

    def test_constant(self):
        assert [weight_at(0.3, epoch, 300) for epoch in (0, 250)] == [0.3, 0.3]

    def test_scaled(self):
        assert weight_at("0.1 * ramp_up", 40, 300) == pytest.approx(0.1 * 2 / 3)

    def test_unknown_name(self):
        with pytest.raises(ValueError, match=r"Unknown schedule 'linear'\. Known: gradual_region, gradual_boundary"):
            weight_at("linear", 0, 300)
        with pytest.raises(ValueError, match="Unknown schedule 'linear'"):
            build("compound", terms=[("dice", "linear")])
        with pytest.raises(
            ValueError, match=r"Expected a number before the star of a schedule, but got 'x \* ramp_up'"
        ):
            weight_at("x * ramp_up", 0, 300)

    @pytest.mark.parametrize(
        "weight",
        ["nan * ramp_up", "inf * ramp_up", "1e999 * ramp_up", "-4 * ramp_up", float("nan"), float("inf"), -1.0],
    )
    def test_no_weight(self, weight):
        message = r"^Expected a weight, or the scale of a schedule, of at least 0, but got .*"
        with pytest.raises(ValueError, match=f"{message}{re.escape(repr(weight))}"):
            weight_at(weight, 40, 300)
        with pytest.raises(ValueError, match=message):
            build("compound", terms=[("dice", weight)])
        assert weight_at("0 * ramp_up", 40, 300) == weight_at(0, 40, 300) == 0

    def test_needs_a_length(self):
        with pytest.raises(ValueError, match="Expected a training of at least one epoch, but got 0"):
            weight_at("ramp_up", 0, 0)

    def test_every_schedule_is_above_or_at_zero(self):
        assert all(schedule(epoch, 1000) >= 0 for schedule in SCHEDULES.values() for epoch in range(0, 2000, 7))


class TestBuild:
    def test_unknown_loss(self):
        with pytest.raises(ValueError, match=f"Unknown loss 'hausdorff'. Known: {', '.join(LOSSES)}, compound"):
            build("hausdorff")
        with pytest.raises(ValueError, match="Unknown loss 'hausdorff'"):
            build("compound", terms=[("hausdorff",)])

    @pytest.mark.parametrize("name", LOSSES)
    def test_unknown_option(self, name):
        with pytest.raises(
            ValueError, match=rf"Unknown option of loss '{name}': typo\. Known: .*ignore_label.*regions"
        ):
            build(name, typo=1)

    @pytest.mark.parametrize("option", ["typo", "batch_dice"])
    def test_unknown_option_of_a_compound(self, option):
        with pytest.raises(ValueError, match=rf"'compound': {option}\. Known: ignore_label, .*regions, terms"):
            build("compound", terms=[("dice",)], **{option: True})

    def test_options_of_the_weights_belong_to_weighted_losses(self):
        with pytest.raises(ValueError, match="Unknown option of loss 'blob': reweight"):
            build("blob", reweight="inverse_volume")
