"""Protocols that measure a model by its features, without the model."""
