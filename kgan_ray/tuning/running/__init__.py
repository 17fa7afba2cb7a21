"""A sweep at work: Ray Tune, its trials, their record."""
