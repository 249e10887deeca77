"""How an engine is started."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.rewriting.actor import restart_pauses_s, start_engine
from laclip_ray.rewriting.engine import Engine, EngineStartError

ENGINE = cast(Engine, object())


class Build:
    """Fails so many times before it gives an engine."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self) -> Engine:
        self.calls += 1
        if self.calls <= self.failures:
            raise EngineStartError("memory is still held")
        return ENGINE


def test_an_engine_that_was_lost_is_started_until_it_is_up() -> None:
    build = Build(failures=2)
    assert start_engine(build, (0.0, 0.0, 0.0)) is ENGINE
    assert build.calls == 3


def test_a_first_start_that_fails_is_not_tried_again() -> None:
    build = Build(failures=1)
    with pytest.raises(EngineStartError):
        start_engine(build, ())
    assert build.calls == 1


def test_the_last_failure_is_raised() -> None:
    with pytest.raises(EngineStartError, match="still held"):
        start_engine(Build(failures=9), (0.0, 0.0))


@given(st.floats(0.1, 10_000))
def test_an_engine_that_was_lost_is_tried_for_as_long_as_asked(timeout_s: float) -> None:
    pauses = list(restart_pauses_s(timeout_s))
    assert sum(pauses) == pytest.approx(timeout_s)
    assert max(pauses) <= 120
