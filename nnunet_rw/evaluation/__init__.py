"""Evaluation per case and per lesion."""
