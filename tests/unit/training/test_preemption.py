"""The notice of a preemption is seen within seconds, once, and at the same step by all workers."""

from typing import Any

import pytest

from laclip_ray.training import preemption
from laclip_ray.training.preemption import LOOK_S, PreemptionNotice


class Surroundings:
    """A clock, Ray's answer, and the other workers' times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.announced: Any = None
        self.looks = 0
        self.slowest_s = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now_s)
        monkeypatch.setattr("ray.train.get_preemption_info", self._look)
        monkeypatch.setattr(preemption, "gather", lambda mine: [mine, self.slowest_s])

    def _look(self) -> Any:
        self.looks += 1
        return self.announced


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    return Surroundings(monkeypatch)


@pytest.mark.parametrize("step_s", [0.01, 0.3, 1.9, 2.5, 30.0])
def test_a_notice_is_seen_within_two_looks(step_s: float, surroundings: Surroundings) -> None:
    notice, step = PreemptionNotice(0), 0
    announced_s = 50.0
    while True:
        step += 1
        surroundings.now_s += step_s
        surroundings.announced = "nodes" if surroundings.now_s >= announced_s else None
        if notice.is_new(step):
            break
    assert surroundings.now_s - announced_s <= max(LOOK_S, step_s) + step_s


def test_looks_are_seldom_where_steps_are_short(surroundings: Surroundings) -> None:
    notice = PreemptionNotice(0)
    for step in range(1, 10_001):
        surroundings.now_s += 0.01
        notice.is_new(step)
    assert surroundings.looks <= 100 / LOOK_S + 2


def test_a_notice_is_new_once(surroundings: Surroundings) -> None:
    notice = PreemptionNotice(0)
    surroundings.announced = "nodes"
    seen = []
    for step in range(1, 100):
        surroundings.now_s += 1.0
        seen.append(notice.is_new(step))
    assert seen.count(True) == 1


def test_workers_of_different_speed_look_at_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[list[int]] = [[], []]
    clocks = [0.0, 0.0]
    current = 0
    shared: list[float] = []
    monkeypatch.setattr("time.monotonic", lambda: clocks[current])
    monkeypatch.setattr(preemption, "gather", lambda mine: [mine, 0.7])
    monkeypatch.setattr("ray.train.get_preemption_info", lambda: shared.append(0.0))
    notices = [PreemptionNotice(0) for _ in looked]
    for step in range(1, 200):
        for current, notice in enumerate(notices):
            clocks[current] += (0.2, 0.7)[current]
            before = len(shared)
            notice.is_new(step)
            if len(shared) > before:
                looked[current].append(step)
    assert looked[0] == looked[1]
    assert len(looked[0]) > 50
