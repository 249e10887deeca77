"""Labelled sets of every layout: their shards, classes and templates, and their encoded images with raw labels."""
