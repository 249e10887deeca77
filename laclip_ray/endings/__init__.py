"""How a run ends: the cause of an error, problems of the surroundings, signals, and the report to the user."""
