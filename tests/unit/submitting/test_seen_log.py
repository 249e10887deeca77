"""A log that is read again and again from its beginning is printed once."""

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.submitting.seen_log import SeenLog


@given(st.text(max_size=60), st.lists(st.lists(st.integers(0, 60), max_size=5), max_size=5))
def test_each_character_is_let_through_once(log: str, connections: list[list[int]]) -> None:
    seen = SeenLog()
    printed = ""
    for cuts in [*connections, [len(log)]]:  # the last connection reads the whole log
        seen.rewind()
        places = sorted(min(cut, len(log)) for cut in cuts)
        for start, end in zip([0, *places], places, strict=False):
            printed += seen.take(log[start:end])
    assert printed == log
    assert log.endswith(seen.tail)


def test_the_tail_holds_the_last_lines() -> None:
    seen = SeenLog()
    seen.take("x" * 100_000)
    seen.take("laclip: exit code 3 (incomplete)\n")
    assert seen.tail.endswith("laclip: exit code 3 (incomplete)\n")
    assert len(seen.tail) < 10_000
