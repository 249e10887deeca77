"""A long protocol has a line every ten seconds, a short one has none."""

import logging

import pytest

from laclip_ray.evaluation.protocols.progress import LOG_EVERY_S, Progress


class Clock:
    """A clock that a test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO)
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def test_a_line_says_the_step_and_the_time_left(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress("linear-probe, pets")
    progress.expect(45)
    for number in range(1, 13):
        clock.now_s += 1.0
        progress.add(f"value {number} of 45 of C")
    assert caplog.messages == ["linear-probe, pets: value 10 of 45 of C; about 35 s left"]


def test_a_short_protocol_says_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress()
    progress.expect(3)
    for _ in range(3):
        clock.now_s += LOG_EVERY_S / 4
        progress.add("a step")
    assert not caplog.messages


def test_a_part_and_several_steps_are_said(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    progress = Progress("k-shot, pets")
    progress.expect(100)
    progress.part = "4 shots, draw 2 of 3, "
    clock.now_s += 60.0
    progress.add("C = 1", 20)
    assert caplog.messages == ["k-shot, pets: 4 shots, draw 2 of 3, C = 1; about 4 min left"]
