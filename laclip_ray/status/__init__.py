"""`laclip status`: the runs of an output, from their files alone. Imports neither Ray, torch nor vLLM."""
