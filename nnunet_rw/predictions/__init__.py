"""Predictions of trained models on disk: found, paired over models, and segmentations made of them."""
