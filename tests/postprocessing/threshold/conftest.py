"""The fixtures of models that were never trained."""

from rule_models import baseline, source
from trained_models import dataset_json, model, predictions, random_probabilities, region_json

__all__ = ["baseline", "dataset_json", "model", "predictions", "random_probabilities", "region_json", "source"]
