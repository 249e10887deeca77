"""Sweeps: train CLIP at many points of a search space, several seeds each, and compare the points seed by seed."""
