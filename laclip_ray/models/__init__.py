"""CLIP models: specifications, the paper's models, building, saving, loading, import and export."""
