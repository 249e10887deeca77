"""Finding the augmentation probability, and what goes with it: one point after another, each with several seeds."""
