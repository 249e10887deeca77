"""The messages about a run's progress. They travel as JSON; texts in them may come from data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

PhaseState = Literal["began", "ended", "failed"]


@dataclass(frozen=True)
class WorkBegan:
    """Input, outputs and the cluster are checked, and files are written from now on."""


@dataclass(frozen=True)
class Phase:
    """A step before or between counted work, such as listing data."""

    key: str
    """Tells phases apart that run at the same time."""
    text: str
    state: PhaseState = "began"
    elapsed_s: float = 0.0
    """Since it began; 0 while it runs."""


@dataclass(frozen=True)
class EngineStart:
    """An engine loads its model, or has loaded it."""

    engine: str
    model: str
    engines: int
    """Upper bound on engines of the run."""
    state: PhaseState = "began"
    elapsed_s: float = 0.0


@dataclass(frozen=True)
class UnitDrawn:
    """The part of a unit (shard x prompt set) that an engine has drawn."""

    done: int
    """Captions with an outcome."""
    captions: int


@dataclass(frozen=True)
class EngineWork:
    """What one engine has drawn since it started."""

    engine: str
    units: Mapping[str, UnitDrawn]
    """Units in flight, by `prompt set/shard`."""
    slots: int
    """Rewrites wanted for finished captions."""
    accepted: int
    """How many of them the checks beside the engine accept."""
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class Rewriting:
    """The driver's counts of rewriting."""

    units: int
    """Shards x prompt sets."""
    units_done: int
    """Committed or given up, in this run and before it."""
    captions_done: int
    """Captions in committed units; a caption counts once for each prompt set."""
    sets: int
    """Number of prompt sets."""
    unit: str | None = None
    """The unit just committed or given up."""
    spent: str = ""
    """GPU-hours or money spent, and the budget; empty without a budget."""
    failed: int = 0
    """Units given up in this run."""


@dataclass(frozen=True)
class RewritingEnd:
    """Engines draw no more."""


@dataclass(frozen=True)
class TrainingStart:
    """The workers have built their models and train."""

    output: str
    step: int
    """Steps done before."""
    steps: int
    epochs: int
    workers: int


@dataclass(frozen=True)
class TrainingStep:
    """The newest step of a run."""

    output: str
    step: int


@dataclass(frozen=True)
class TrainingRow:
    """A line of a run's metrics."""

    output: str
    row: Mapping[str, Any]


@dataclass(frozen=True)
class TrainingEnd:
    """A run trains no more."""

    output: str


@dataclass(frozen=True)
class Count:
    """A number of things done, of all."""

    key: str
    what: str
    """Plural, such as `images of imagenet`."""
    done: int
    total: int | None
    note: str = ""
    is_over: bool = False


def workers_key(output: str) -> str:
    """The key of the phase that starts a run's workers. `TrainingStart` ends it."""
    return f"workers of {output}"


Training = TrainingStart | TrainingStep | TrainingRow | TrainingEnd
Message = WorkBegan | Phase | EngineStart | EngineWork | Rewriting | RewritingEnd | Training | Count

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in get_args(Message)}


def to_json(message: Message) -> dict[str, Any]:
    """The message as JSON."""
    return {"kind": type(message).__name__, **asdict(message)}


def from_json(content: Mapping[str, Any]) -> Message:
    """Undo `to_json`.

    Raises:
        KeyError: no such kind.
        TypeError: a field is missing, unknown, or of another type.
    """
    kind = _KINDS[content["kind"]]
    values = {name: value for name, value in content.items() if name != "kind"}
    if kind is EngineWork:
        values["units"] = {str(name): UnitDrawn(**unit) for name, unit in dict(values["units"]).items()}
    message: Message = kind(**values)
    for each in fields(message):
        _check_type(each.type, getattr(message, each.name))
    if isinstance(message, EngineWork):
        for unit in message.units.values():
            _check_type(int, unit.done)
            _check_type(int, unit.captions)
    return message


def _check_type(expected: Any, value: Any) -> None:
    """Refuse text where a number is expected, and the reverse: a forged message must not break a watcher."""
    if expected in (int, float) and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise TypeError(f"a number is expected, not {value!r}")
    if expected is str and not isinstance(value, str):
        raise TypeError(f"a text is expected, not {value!r}")
