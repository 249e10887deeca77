"""Robustness to wording: templates, paraphrased captions, and captions that say something else."""
