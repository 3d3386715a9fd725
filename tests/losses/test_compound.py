"""Weighted sums of losses."""

import pytest
import torch
from loss_problems import IGNORE, ROW, P, logits_of, row, value

from nnunet_rw.losses import CompoundLoss, LossInputs, Term, build, unique_names


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
