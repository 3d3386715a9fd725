"""Better decisions from the predictions of trained models."""
