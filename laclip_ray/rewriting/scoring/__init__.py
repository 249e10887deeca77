"""Verdicts that need a model: a sentence encoder, or CLIP and the pictures."""
