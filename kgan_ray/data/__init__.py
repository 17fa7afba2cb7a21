"""Recordings in, motions out: readers of every source, `prepare`'s dataset folder, batches for training."""
