"""The gate: which rewrites are accepted, by words and by scores. Pure functions."""
