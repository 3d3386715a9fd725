"""Losses by name."""

import pytest

from nnunet_rw.losses import LOSSES, build


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
