"""Kinetic-GAN on Ray: train, sweep and judge generators of human skeleton motion."""
