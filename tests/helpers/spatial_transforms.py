"""nnU-Net's spatial transform, set to do one thing for sure."""

from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from nnunet_rw.training.dataloading import MapSpatialTransform


def spatial(patch_size, layout, zoom=None, angle=0.0):
    """nnU-Net's spatial transform as its trainer sets it up, always applied, knowing maps."""
    stock = SpatialTransform(
        patch_size,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=float(angle > 0),
        rotation=(-angle, angle),
        p_scaling=float(zoom is not None),
        scaling=(zoom, zoom),
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    return MapSpatialTransform(stock, layout)
