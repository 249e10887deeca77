"""The notice of a preemption is seen within seconds, at the same step by all workers, and no step after it is lost."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from laclip_ray.training import preemption
from laclip_ray.training.preemption import LOOK_S, REGISTER_S, PreemptionNotice, Reaction


class Surroundings:
    """A clock, Ray's answer, and the other workers' times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.announced: Any = None
        self.looks = 0
        self.slowest_s = 0.0
        monkeypatch.setattr("time.monotonic", lambda: self.now_s)
        monkeypatch.setattr("time.time", lambda: self.now_s)
        monkeypatch.setattr("ray.train.get_preemption_info", self._look)
        monkeypatch.setattr(preemption, "gather", lambda mine: [mine, mine._replace(step_s=self.slowest_s)])

    def _look(self) -> Any:
        self.looks += 1
        return self.announced


def notice_until(deadline_s: float | None) -> Any:
    """Ray's answer."""
    return SimpleNamespace(deadline_ms=None if deadline_s is None else int(deadline_s * 1000))


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    return Surroundings(monkeypatch)


def reactions(
    surroundings: Surroundings, step_s: float, notice_s: float | None, upload_s: float = 1.0, announced_s: float = 50.0
) -> list[tuple[float, Reaction]]:
    """The reactions and their times, from the notice to the end of the steps or the deadline."""
    notice, step, saved_s = PreemptionNotice(0), 0, -math.inf
    seen: list[tuple[float, Reaction]] = []
    while surroundings.now_s < announced_s + (notice_s or 120.0):
        step += 1
        surroundings.now_s += step_s
        if surroundings.now_s >= announced_s:
            surroundings.announced = notice_until(None if notice_s is None else announced_s + notice_s)
        reaction = notice.look(step, is_uploading=surroundings.now_s < saved_s + upload_s)
        if reaction is not Reaction.NOTHING:
            saved_s = surroundings.now_s
            seen.append((saved_s - announced_s, reaction))
        if reaction is Reaction.HAND_OVER:
            break
    return seen


@pytest.mark.parametrize("step_s", [0.01, 0.3, 1.9, 2.5, 30.0])
def test_a_notice_is_seen_within_two_looks(step_s: float, surroundings: Surroundings) -> None:
    (after_s, _), *_ = reactions(surroundings, step_s, 120.0)
    assert after_s <= max(LOOK_S, step_s) + step_s


def test_looks_are_seldom_where_steps_are_short(surroundings: Surroundings) -> None:
    notice = PreemptionNotice(0)
    for step in range(1, 10_001):
        surroundings.now_s += 0.01
        notice.look(step, is_uploading=False)
    assert surroundings.looks <= 100 / LOOK_S + 2


@pytest.mark.parametrize("step_s", [0.01, 0.3, 1.5])
@pytest.mark.parametrize("notice_s", [30.0, 120.0, None])
@pytest.mark.parametrize("upload_s", [0.5, 4.0])
def test_workers_save_at_the_notice_and_hand_over_in_time_for_a_second_checkpoint(
    step_s: float, notice_s: float | None, upload_s: float, surroundings: Surroundings
) -> None:
    (first_s, first), (second_s, second) = reactions(surroundings, step_s, notice_s, upload_s)
    assert (first, second) == (Reaction.SAVE, Reaction.HAND_OVER)
    remaining_s = (first_s + 120.0 if notice_s is None else notice_s) - second_s
    assert upload_s + REGISTER_S <= remaining_s
    assert remaining_s <= 2 * (upload_s + LOOK_S + step_s) + REGISTER_S + LOOK_S + 2 * step_s


@pytest.mark.parametrize("step_s", [0.01, 0.3, 1.5])
def test_a_short_notice_leaves_time_for_one_checkpoint(step_s: float, surroundings: Surroundings) -> None:
    ((after_s, reaction),) = reactions(surroundings, step_s, 10.0)
    assert reaction is Reaction.HAND_OVER
    assert after_s <= LOOK_S + 2 * step_s


def test_an_upload_that_takes_too_long_gets_no_second_checkpoint(surroundings: Surroundings) -> None:
    ((_, reaction),) = reactions(surroundings, 0.3, 30.0, upload_s=25.0)
    assert reaction is Reaction.SAVE


def test_workers_that_are_not_restarted_hand_over_once(surroundings: Surroundings) -> None:
    notice = PreemptionNotice(0)
    surroundings.announced = notice_until(5.0)
    seen = []
    for step in range(1, 100):
        surroundings.now_s += 1.0
        seen.append(notice.look(step, is_uploading=False))
    assert seen.count(Reaction.HAND_OVER) == 1
    assert seen.count(Reaction.SAVE) == 0


def test_workers_of_different_speed_look_at_the_same_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[list[int]] = [[], []]
    clocks = [0.0, 0.0]
    current = 0
    shared: list[float] = []
    monkeypatch.setattr("time.monotonic", lambda: clocks[current])
    monkeypatch.setattr(preemption, "gather", lambda mine: [mine, mine._replace(step_s=0.7)])
    monkeypatch.setattr("ray.train.get_preemption_info", lambda: shared.append(0.0))
    notices = [PreemptionNotice(0) for _ in looked]
    for step in range(1, 200):
        for current, notice in enumerate(notices):
            clocks[current] += (0.2, 0.7)[current]
            before = len(shared)
            notice.look(step, is_uploading=False)
            if len(shared) > before:
                looked[current].append(step)
    assert looked[0] == looked[1]
    assert len(looked[0]) > 50
