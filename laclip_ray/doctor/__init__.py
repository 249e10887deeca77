"""`laclip doctor`: what would stop a run is found before it starts. Each check gives a result and what to do."""
