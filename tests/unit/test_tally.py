"""Counts are exact, and names are bounded and unique."""

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.tally import NAMES_KEPT, Tally, first_names

EVENTS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40).map(str)), max_size=120)


def tally_of(events: list[tuple[str, str]]) -> Tally:
    tally = Tally()
    for reason, name in events:
        tally.add(reason, name)
    return tally


@given(EVENTS)
def test_every_event_is_counted_and_the_first_names_are_kept_once(events: list[tuple[str, str]]) -> None:
    tally = tally_of(events)
    for reason in "ab":
        names = [name for event_reason, name in events if event_reason == reason]
        assert tally.counts[reason] == len(names)
        assert tally.names.get(reason, []) == list(dict.fromkeys(names))[:NAMES_KEPT]


@given(EVENTS, EVENTS)
def test_merging_equals_counting_both(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    merged, other = tally_of(first), tally_of(second)
    merged.merge(other.counts, other.names)
    assert merged == tally_of(first + second)


def test_names_beyond_the_first_are_counted_in_a_message() -> None:
    assert first_names([]) == ""
    assert first_names(["a", "b"], most=2) == "a, b"
    assert first_names(map(str, range(1_007)), most=3) == "0, 1, 2 and 1,004 more"
