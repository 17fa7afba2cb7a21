"""From sources to a dataset folder."""
