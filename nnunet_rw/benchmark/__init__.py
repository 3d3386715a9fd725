"""Trainers x tasks x folds x seeds: planned, trained, evaluated, compared."""
