"""Before money is spent: estimates, previews and probes of an engine."""
