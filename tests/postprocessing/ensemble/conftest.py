"""The fixtures of models that were never trained."""

from trained_models import dataset_json, model, predictions, random_probabilities, region_json

__all__ = ["dataset_json", "model", "predictions", "random_probabilities", "region_json"]
