"""`laclip report`: one HTML page about runs, from their files alone. Imports neither Ray, torch nor vLLM."""
