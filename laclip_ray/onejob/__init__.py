"""Rewriting and training in one job."""
