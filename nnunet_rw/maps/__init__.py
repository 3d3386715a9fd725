"""Maps of a label volume: NumPy in, NumPy out. Knows neither torch nor nnU-Net."""

from nnunet_rw.maps.distance import (
    boundary_maps,
    interior_distance,
    rectified_region_wise_maps,
    signed_distance,
)
from nnunet_rw.maps.lesions import (
    LesionComponents,
    expand_lesions,
    inverse_volume_weights,
    lesion_components,
    lesion_volume_map,
)

__all__ = [
    "LesionComponents",
    "boundary_maps",
    "expand_lesions",
    "interior_distance",
    "inverse_volume_weights",
    "lesion_components",
    "lesion_volume_map",
    "rectified_region_wise_maps",
    "signed_distance",
]
