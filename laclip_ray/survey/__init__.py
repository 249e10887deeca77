"""Look at a dataset: what `laclip init` finds and writes a config from, and what `laclip data check` counts."""
