"""Several trained models as one: their probabilities averaged, with weights that cross-validation may choose."""
