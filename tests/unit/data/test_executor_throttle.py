"""The throttle delays short iterations of Ray Data's loop, and no others."""

from types import SimpleNamespace

import pytest

from laclip_ray.data.executor_throttle import MIN_ITERATION_S, ThrottledExecution


def test_only_a_short_iteration_is_delayed_and_only_to_the_minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    delays: list[float] = []

    def sleep(seconds: float) -> None:
        delays.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(
        "laclip_ray.data.executor_throttle.time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    )
    execution = ThrottledExecution()
    execution.on_execution_step(None)
    now[0] += MIN_ITERATION_S / 4
    execution.on_execution_step(None)
    now[0] += 3 * MIN_ITERATION_S
    execution.on_execution_step(None)
    assert delays == [pytest.approx(MIN_ITERATION_S * 3 / 4)]
