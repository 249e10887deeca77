"""Train the demo's rewriter: a Llama of 1.4 million parameters that rewrites alt-texts of the demo's world.

The training texts are the platform's own prompts (instruction, three pairs of a built-in prompt set, an alt-text). The
model learns to continue them with a faithful rewrite in that set's style, a line break and the end token. The loss
covers only this continuation.

The wheel contains the trained model but not this package. Not covered: alt-texts of other worlds.
"""
