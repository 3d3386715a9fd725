"""nnU-Net v2 with losses that see where a voxel lies and how large its lesion is."""

__version__ = "0.1.0"
