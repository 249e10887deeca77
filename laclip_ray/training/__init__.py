"""Batches in, weights and metrics out: model, loss, optimiser, the loop, checkpoints, and the Ray Train run."""
