"""Captions in, rewrites out: prompts, engine, gate, store, and the Ray Data pipeline that joins them."""
