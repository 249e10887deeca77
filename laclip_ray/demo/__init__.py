"""The demo: a small drawn world, alt-texts about it, and a small language model that rewrites them."""
