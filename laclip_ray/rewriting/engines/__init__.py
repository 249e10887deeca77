"""Engines: arguments, prompt heads, requests, and their work as counted."""
