"""Rewrite the captions of image-text data with vLLM and train CLIP on the result, on a Ray cluster."""

__version__ = "0.1.0"
