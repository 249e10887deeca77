"""People see as many captions as they asked for, each outcome among them."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.rewriting.shown_draws import Caption, Draw, choose


def captions(count: int, rare: Sequence[int] = ()) -> list[Caption]:
    """Captions with accepted rewrites, but for the rare ones."""
    return [
        Caption(
            ("shard", str(number), "h"),
            f"caption {number}",
            [Draw("cleaned", 0, 0, "text", "looping" if number in rare else None, {})],
        )
        for number in range(count)
    ]


@given(st.integers(0, 60), st.integers(0, 30), st.integers(0, 5))
def test_as_many_captions_as_wanted_are_chosen_each_once(available: int, wanted: int, seed: int) -> None:
    chosen = choose(captions(available), wanted, seed)
    assert len(chosen) == min(available, wanted)
    assert len({caption.key for caption in chosen}) == len(chosen)
    assert chosen == choose(list(reversed(captions(available))), wanted, seed)


@given(st.integers(0, 20))
def test_a_rare_reason_has_an_example(seed: int) -> None:
    chosen = choose(captions(200, rare=[17]), 8, seed)
    assert any(draw.reason == "looping" for caption in chosen for draw in caption.draws)
