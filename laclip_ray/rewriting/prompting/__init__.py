"""From a caption to a prompt, and from a completion to a rewrite."""
