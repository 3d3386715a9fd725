"""Where nnU-Net is met: its trainer, data loader and augmentation with maps, and records of what it did."""
