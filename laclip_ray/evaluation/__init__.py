"""Evaluation of a trained model: zero-shot classification and image-text retrieval."""
