"""The rewrite store: sets, their shards, their columns and their statistics."""
