"""From which probability on a voxel is a lesion: chosen on cross-validation, applied to predictions."""
