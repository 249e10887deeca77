"""An engine is started with retries."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.rewriting.actor import start_engine
from laclip_ray.rewriting.engine import Engine, EngineStartError

ENGINE = cast(Engine, object())


class Build:
    """Fails a number of times, then gives an engine. Each call takes some time."""

    def __init__(self, failures: float, takes_s: float = 0.0) -> None:
        self.failures = failures
        self.takes_s = takes_s
        self.calls = 0
        self.now_s = 0.0

    def __call__(self) -> Engine:
        self.calls += 1
        self.now_s += self.takes_s
        if self.calls <= self.failures:
            raise EngineStartError("memory is still held")
        return ENGINE

    def start(self, timeout_s: float) -> Engine:
        """Start the engine with a simulated clock."""

        def sleep(pause_s: float) -> None:
            self.now_s += pause_s

        return start_engine(self, timeout_s, sleep=sleep, clock=lambda: self.now_s)


def test_a_lost_engine_is_started_until_it_is_up() -> None:
    build = Build(failures=7)
    assert build.start(600.0) is ENGINE
    assert build.calls == 8


def test_a_failed_first_start_is_not_retried() -> None:
    build = Build(failures=1)
    with pytest.raises(EngineStartError):
        build.start(0.0)
    assert build.calls == 1


@given(timeout_s=st.floats(1.0, 10_000.0), takes_s=st.floats(0.0, 300.0))
def test_the_last_start_begins_when_the_time_is_over(timeout_s: float, takes_s: float) -> None:
    build = Build(failures=float("inf"), takes_s=takes_s)
    with pytest.raises(EngineStartError, match="still held"):
        build.start(timeout_s)
    assert timeout_s <= build.now_s + 1e-6
    assert build.now_s - takes_s <= max(timeout_s, takes_s) + 1e-6
