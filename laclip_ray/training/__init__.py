"""Training: loss, optimiser, step, the loop of a worker, checkpoints, metrics, and the Ray Train run around them."""
