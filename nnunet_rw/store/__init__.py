"""Maps on disk, beside nnU-Net's preprocessed arrays."""
