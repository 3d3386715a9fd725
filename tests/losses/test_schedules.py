"""Weights that change from epoch to epoch."""

import re

import pytest

from nnunet_rw.losses import build
from nnunet_rw.losses.compound import SCHEDULES, weight_at


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
