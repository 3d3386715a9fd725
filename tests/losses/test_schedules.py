"""Weights that change from epoch to epoch."""

import pytest

from nnunet_rw.losses import build
from nnunet_rw.losses.schedules import SCHEDULES, weight_at


class TestSchedules:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("gradual_region", (1, 0.6, 0.01, 0.01, 0.01)),
            ("gradual_boundary", (0, 0.4, 0.99, 0.99, 0.99)),
            ("rebalance_region", (0.99, 0.59, 0.01, 0.01, 0.01)),
            ("rebalance_boundary", (0.01, 0.41, 0.99, 0.99, 0.99)),
            ("increase_boundary", (0.01, 0.41, 1.00, 1.01, 2.51)),
        ],
    )
    def test_values(self, name, values):
        computed = [weight_at(name, epoch) for epoch in (0, 40, 99, 100, 250)]
        assert computed == pytest.approx(values, abs=1e-12)

    def test_constant(self):
        assert [weight_at(0.3, epoch) for epoch in (0, 250)] == [0.3, 0.3]

    def test_unknown_name(self):
        with pytest.raises(ValueError, match=r"Unknown schedule 'linear'\. Known: gradual_region, gradual_boundary"):
            weight_at("linear", 0)
        with pytest.raises(ValueError, match="Unknown schedule 'linear'"):
            build("compound", terms=[("dice", "linear")])

    def test_every_schedule_is_above_or_at_zero(self):
        assert all(schedule(epoch) >= 0 for schedule in SCHEDULES.values() for epoch in range(0, 2000, 7))
