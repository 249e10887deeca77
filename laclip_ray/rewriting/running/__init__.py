"""A rewriting run: its work, its workers, and its result."""
