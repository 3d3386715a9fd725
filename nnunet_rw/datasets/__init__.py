"""Datasets as nnU-Net keeps them, and where they come from."""
