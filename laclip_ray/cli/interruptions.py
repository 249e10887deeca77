"""The message of an interrupted command: its saved work, and how to continue."""

from collections.abc import Sequence
from signal import Signals

_SAVED = {
    "rewrite": "committed shards are kept, and the same command does the others",
    "train": "the newest checkpoint is kept, and the same command resumes from it (without one, from the start)",
    "run": "committed shards and the newest checkpoint are kept, and the same command resumes both",
    "tune": "results of evaluated runs and checkpoints of the others are kept, and the same command resumes the sweep",
    "evaluate": "results of measured sets and stored features are kept, and the same command measures again",
    "submit": "a submitted job is not stopped, and the same command attaches to it",
    "demo": "finished stages, committed shards and checkpoints are kept, and the same command resumes",
    "rewrites retry": "committed shards are kept, and the same command does the others",
    "rewrites import": "committed shards are kept, and the same command does the others",
    "rewrites export": (
        "the export is not complete; remove its output if it exists, and the same command starts from the beginning"
    ),
    "checkpoint import": (
        "the target is not complete; remove it if it exists, and the same command starts from the beginning"
    ),
    "checkpoint export": (
        "the target is not complete; remove it if it exists, and the same command starts from the beginning"
    ),
}
_UNCHANGED = "no file was changed, and the same command starts from the beginning"

_NAMES = {Signals.SIGINT: "Ctrl-C", Signals.SIGTERM: "SIGTERM"}


def interruption_message(number: Signals, words: Sequence[str]) -> str:
    """The message of a command that a signal interrupted: one sentence.

    Args:
        number: the signal.
        words: the command line after `laclip`.

    >>> interruption_message(Signals.SIGTERM, ["plan", "config.yaml"])
    'stopped by SIGTERM: no file was changed, and the same command starts from the beginning'
    """
    saved = _SAVED.get(" ".join(words[:2])) or _SAVED.get(" ".join(words[:1]), _UNCHANGED)
    return f"stopped by {_NAMES[number]}: {saved}"
