"""Metrics: features of motions, scores between sets of features, and the suite of named protocols."""
