"""A trained model in, metrics out: zero-shot classification and image-text retrieval."""
