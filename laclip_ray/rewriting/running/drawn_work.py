"""The draws of one engine, for people who watch the run. It decides nothing."""

import threading

from laclip_ray import progress
from laclip_ray.progress.messages import EngineWork, UnitDrawn

_PERIOD_S = 2.0
"""Time between two messages of an engine."""


class DrawnWork:
    """Counts captions and rewrites as they come out of the engine. Used from one event loop, read by a thread."""

    def __init__(self) -> None:
        """Start at zero."""
        self._units: dict[str, list[int]] = {}
        """Captions done, and captions, by unit in flight."""
        self._slots = self._accepted = self._prompt_tokens = self._cached_tokens = 0

    def begin(self, unit: str, captions: int) -> None:
        """A unit's captions go to the engine; called again for each of its pieces."""
        counts = self._units.setdefault(unit, [0, 0])
        counts[1] += captions

    def end(self, unit: str) -> None:
        """A unit has left the engine."""
        self._units.pop(unit, None)

    def add_captions(self, unit: str, captions: int) -> None:
        """Captions of a unit have an outcome."""
        if unit in self._units:
            self._units[unit][0] += captions

    def add_request(self, slots: int, accepted: int, prompt_tokens: int, cached_tokens: int) -> None:
        """The engine has drawn a request's slots, as often as that was useful."""
        self._slots += slots
        self._accepted += accepted
        self._prompt_tokens += prompt_tokens
        self._cached_tokens += cached_tokens

    def message(self, engine: str) -> EngineWork:
        """The counts of now."""
        units = {unit: UnitDrawn(done, captions) for unit, (done, captions) in list(self._units.items())}
        return EngineWork(
            engine,
            units,
            self._slots,
            self._accepted,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
        )


def tell_regularly(work: DrawnWork, engine: str) -> threading.Event:
    """Tell who watches of an engine's work every two seconds, if it has changed.

    Returns:
        Ends that when it is set. It ends with the process in any case.
    """
    is_over = threading.Event()

    def follow() -> None:
        told = None
        while not is_over.wait(_PERIOD_S):
            if (message := work.message(engine)) != told:
                progress.tell(message)
                told = message

    if progress.is_watched():
        threading.Thread(target=follow, daemon=True, name="progress").start()
    return is_over
