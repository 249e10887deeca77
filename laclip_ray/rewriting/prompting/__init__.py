"""From a caption to a prompt, and from what the model wrote to a rewrite."""
