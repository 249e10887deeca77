"""CLIP models: specifications, building, loading, saving and conversion."""
