"""Shards in, samples out: listing and reading shards, the schedule, the text choice, and the stream."""
