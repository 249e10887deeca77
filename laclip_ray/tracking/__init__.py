"""Experiment trackers: TensorBoard, W&B, Trackio and MLflow.

    tracker.py        the facts a tracker gets, and the calls that each one answers
    trackers.py       the trackers of one run, each in a thread of its own
    choice.py         checks before a run, and one tracker by its name
    identity.py       the id by which a resumed run finds its run in each tracker
    values.py         metrics as numbers by name
    to_*.py           one tracker each; imports its package when it begins

Guarantees: a tracker that fails is reported once and never stops a run. A resumed run continues the same run in every
tracker, and each step is there once. Nothing is sent that `redaction` knows as a secret.

Importing this package loads neither Ray nor torch, nor the package of any tracker.
"""
