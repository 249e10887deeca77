"""Trackers get each set's outcomes as counts and shares of its slots."""

from collections import Counter

from laclip_ray.rewriting.running.tracked import outcomes
from laclip_ray.rewriting.storing.statistics import Statistics


def test_outcomes_count_every_slot_of_a_set_once() -> None:
    statistics = {
        "cleaned": Statistics(accepted=6, unfilled=Counter(too_short=1, looping=3)),
        "crowd": Statistics(accepted=5),
        "empty": Statistics(),
    }
    assert outcomes(statistics).rows == [
        ["cleaned", "accepted", 6, 0.6],
        ["cleaned", "looping", 3, 0.3],
        ["cleaned", "too_short", 1, 0.1],
        ["crowd", "accepted", 5, 1.0],
        ["empty", "accepted", 0, 0.0],
    ]
