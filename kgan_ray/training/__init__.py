"""Losses, the GAN and its step, checkpoints, the loop, and its launch on Ray Train."""
