"""Properties of the throttle of Ray Data's loop."""

from types import SimpleNamespace

import pytest

from laclip_ray.data.executor_throttle import TURN_S, ThrottledExecution


def test_a_short_turn_is_filled_up_and_a_long_one_is_not_delayed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(
        "laclip_ray.data.executor_throttle.time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    )
    paced = ThrottledExecution()
    paced.on_execution_step(None)
    now[0] += TURN_S / 4
    paced.on_execution_step(None)
    now[0] += 3 * TURN_S
    paced.on_execution_step(None)
    assert slept == [pytest.approx(TURN_S * 3 / 4)]
