"""The state of a run, put together from its messages."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from laclip_ray.live.pace import Pace
from laclip_ray.progress.messages import (
    Count,
    EngineStart,
    EngineWork,
    Message,
    Phase,
    Rewriting,
    RewritingEnd,
    Training,
    TrainingEnd,
    TrainingRow,
    TrainingStart,
    UnitDrawn,
    workers_key,
)

_SETTLED_KEPT = 256


@dataclass
class RewritingState:
    """Rewriting, as the driver and its engines tell it."""

    driver: Rewriting
    pace: Pace = field(default_factory=Pace)
    units: dict[str, UnitDrawn] = field(default_factory=dict)
    """Units that engines draw, or have drawn, before their commit."""
    settled: deque[str] = field(default_factory=lambda: deque(maxlen=_SETTLED_KEPT))
    """Recently committed units. An engine's message about them may arrive late."""
    engines: dict[str, EngineWork] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Captions with an outcome, committed or not."""
        return self.driver.captions_done + sum(unit.done for unit in self.units.values())

    @property
    def total(self) -> int | None:
        """About how many captions there are: units not heard of count as the mean of the others. None: not known."""
        left = self.driver.units - self.driver.units_done
        known_left = len(self.units)
        captions = self.driver.captions_done + sum(unit.captions for unit in self.units.values())
        if left <= known_left:
            return captions
        heard = self.driver.units_done - self.driver.failed + known_left
        return captions + round((left - known_left) * captions / heard) if heard > 0 and captions else None

    @property
    def accepted_share(self) -> float | None:
        """Of the rewrites wanted in this run, so far."""
        slots = sum(engine.slots for engine in self.engines.values())
        return sum(engine.accepted for engine in self.engines.values()) / slots if slots else None

    @property
    def cached_share(self) -> float | None:
        """Of the prompt tokens of this run."""
        prompt = sum(engine.prompt_tokens for engine in self.engines.values())
        return sum(engine.cached_tokens for engine in self.engines.values()) / prompt if prompt else None


@dataclass
class TrainingState:
    """One training run."""

    start: TrainingStart
    step: int
    row: Mapping[str, Any] = field(default_factory=dict)
    """The newest line of metrics."""
    pace: Pace = field(default_factory=Pace)


@dataclass
class CountState:
    """A count, and its rate."""

    count: Count
    pace: Pace = field(default_factory=Pace)


@dataclass
class OpenPhase:
    """A running phase."""

    text: str
    began_s: float


class Board:
    """The newest state of everything that messages tell of."""

    def __init__(self, began_s: float) -> None:
        """Start empty; the verb began at `began_s`."""
        self.began_s = began_s
        self.phases: dict[str, OpenPhase] = {}
        """Running ones, in the order of their begin."""
        self.rewriting: RewritingState | None = None
        self.trainings: dict[str, TrainingState] = {}
        """By output."""
        self.counts: dict[str, CountState] = {}
        self._engine_numbers: dict[str, int] = {}

    def take(self, message: Message, now_s: float) -> Phase | None:
        """Add a message to the state.

        Args:
            message: in the order of arrival.
            now_s: by a clock that does not go back.

        Returns:
            The phase that the message ends, if it ends one.
        """
        if isinstance(message, EngineStart):
            message = self._phase_of(message)
        if isinstance(message, TrainingStart):
            self._take_training(message, now_s)
            key = workers_key(message.output)
            began = self.phases.get(key)
            if began is None:
                return None
            message = Phase(key, began.text, "ended", now_s - began.began_s)
        if isinstance(message, Phase):
            if message.state == "began":
                self.phases[message.key] = OpenPhase(message.text, now_s)
                return None
            self.phases.pop(message.key, None)
            return message
        self._take_work(message, now_s)
        return None

    def _take_work(self, message: Message, now_s: float) -> None:
        if isinstance(message, Rewriting):
            self._take_rewriting(message, now_s)
        elif isinstance(message, RewritingEnd):
            self.rewriting = None
        elif isinstance(message, EngineWork):
            self._take_engine(message, now_s)
        elif isinstance(message, Count):
            self._take_count(message, now_s)
        elif isinstance(message, Training):
            self._take_training(message, now_s)

    def _phase_of(self, start: EngineStart) -> Phase:
        """An engine's start as a phase. Engines are numbered by their first message."""
        number = self._engine_numbers.setdefault(start.engine, len(self._engine_numbers) + 1)
        # A later engine takes the place of a dead one.
        of = f"engine {number} of {start.engines}" if number <= start.engines else f"engine {number}"
        return Phase(f"engine {start.engine}", f"{of}: loading {start.model}", start.state, start.elapsed_s)

    def _take_rewriting(self, message: Rewriting, now_s: float) -> None:
        if self.rewriting is None:
            self.rewriting = RewritingState(message)
        state = self.rewriting
        state.driver = message
        if message.unit is not None:
            state.units.pop(message.unit, None)
            state.settled.append(message.unit)
        state.pace.add(state.done, now_s)

    def _take_engine(self, message: EngineWork, now_s: float) -> None:
        state = self.rewriting
        if state is not None:
            state.engines[message.engine] = message
            state.units.update({name: unit for name, unit in message.units.items() if name not in state.settled})
            state.pace.add(state.done, now_s)

    def _take_count(self, message: Count, now_s: float) -> None:
        if message.is_over:
            self.counts.pop(message.key, None)
            return
        state = self.counts.setdefault(message.key, CountState(message))
        state.count = message
        state.pace.add(message.done, now_s)

    def _take_training(self, message: Training, now_s: float) -> None:
        if isinstance(message, TrainingEnd):
            self.trainings.pop(message.output, None)
            self.phases.pop(workers_key(message.output), None)
        elif isinstance(message, TrainingStart):
            # Also after a restart of the workers, whose pace begins anew.
            before = self.trainings.get(message.output)
            state = TrainingState(message, message.step, before.row if before is not None else {})
            state.pace.add(message.step, now_s)
            self.trainings[message.output] = state
        elif (state_of := self.trainings.get(message.output)) is not None:
            if isinstance(message, TrainingRow):
                state_of.row = message.row
            else:
                state_of.step = message.step
                state_of.pace.add(message.step, now_s)
