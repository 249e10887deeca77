"""The text choice is pure, nested in p, and fair."""

from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.augment import FALLBACKS, TextSource, choose_text

shares = st.floats(0.0, 1.0)
seeds = st.integers(0, 2**40)
epochs = st.integers(0, 100)
rewrite_lists = st.none() | st.lists(st.text(), max_size=5)


@given(p=shares, seed=seeds, epoch=epochs, sample_id=st.text(), rewrites=rewrite_lists)
def test_the_choice_is_a_function_of_its_arguments(
    p: float, seed: int, epoch: int, sample_id: str, rewrites: list[str] | None
) -> None:
    first = choose_text("caption", rewrites, p, seed, epoch, sample_id)
    assert choose_text("caption", rewrites, p, seed, epoch, sample_id) == first


@given(ps=st.lists(shares, min_size=2).map(sorted), seed=seeds, epoch=epochs, sample_id=st.text())
def test_a_rewrite_shown_at_some_p_is_shown_at_every_larger_p(
    ps: list[float], seed: int, epoch: int, sample_id: str
) -> None:
    choices = [choose_text("caption", ["a", "b", "c"], p, seed, epoch, sample_id) for p in ps]
    for smaller, larger in pairwise(choices):
        if smaller.source == TextSource.REWRITE:
            assert larger == smaller


@given(seed=seeds, epoch=epochs, sample_id=st.text(), rewrites=rewrite_lists)
def test_the_caption_is_always_shown_at_p_0_and_never_chosen_at_p_1(
    seed: int, epoch: int, sample_id: str, rewrites: list[str] | None
) -> None:
    assert choose_text("caption", rewrites, 0.0, seed, epoch, sample_id).source == TextSource.CAPTION
    assert choose_text("caption", rewrites, 1.0, seed, epoch, sample_id).source != TextSource.CAPTION


@given(p=shares, seed=seeds, epoch=epochs, sample_id=st.text(), rewrites=rewrite_lists)
def test_the_text_is_the_one_that_its_source_says(
    p: float, seed: int, epoch: int, sample_id: str, rewrites: list[str] | None
) -> None:
    choice = choose_text("caption", rewrites, p, seed, epoch, sample_id)
    if choice.source == TextSource.REWRITE:
        assert choice.text in (rewrites or [])
    else:
        assert choice.text == "caption"
    assert (choice.source == TextSource.NOT_REWRITTEN) <= (rewrites is None)
    assert (choice.source == TextSource.NO_ACCEPTED_REWRITE) <= (rewrites == [])


@given(p=shares, seed=seeds, epoch=epochs, sample_id=st.text())
def test_a_sample_without_rewrites_falls_back_exactly_where_one_with_would_show_one(
    p: float, seed: int, epoch: int, sample_id: str
) -> None:
    given_one = choose_text("caption", ["a"], p, seed, epoch, sample_id).source == TextSource.REWRITE
    nothing: tuple[list[str] | None, ...] = (None, [])
    for rewrites in nothing:
        assert (choose_text("caption", rewrites, p, seed, epoch, sample_id).source in FALLBACKS) == given_one


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_share_of_rewrites_is_p(p: float) -> None:
    count = 5_000
    sources = [choose_text("c", ["a", "b"], p, 1, 0, str(number)).source for number in range(count)]
    shown = sources.count(TextSource.REWRITE)
    assert abs(shown - p * count) < 5 * sqrt(count * p * (1 - p))


def test_each_rewrite_is_equally_likely() -> None:
    count = 5_000
    rewrites = ["a", "b", "c", "d"]
    texts = [choose_text("caption", rewrites, 1.0, 1, 0, str(number)).text for number in range(count)]
    for rewrite in rewrites:
        assert abs(texts.count(rewrite) - count / 4) < 5 * sqrt(count * 3 / 16)


def test_the_papers_p_makes_caption_and_rewrites_equally_likely() -> None:
    count, rewrites = 5_000, ["a", "b", "c", "d"]
    p = len(rewrites) / (len(rewrites) + 1)
    texts = [choose_text("caption", rewrites, p, 2, 0, str(number)).text for number in range(count)]
    for text in ["caption", *rewrites]:
        assert abs(texts.count(text) - count / 5) < 5 * sqrt(count * 4 / 25)


def test_epochs_seeds_and_ids_draw_independently() -> None:
    count = 4_000

    def rewritten(seed: int, epoch: int, prefix: str) -> list[bool]:
        choices = (choose_text("c", ["a"], 0.5, seed, epoch, f"{prefix}{number}") for number in range(count))
        return [choice.source == TextSource.REWRITE for choice in choices]

    base = rewritten(0, 0, "x")
    for other in (rewritten(1, 0, "x"), rewritten(0, 1, "x"), rewritten(0, 0, "y")):
        agreeing = sum(one == two for one, two in zip(base, other, strict=True))
        assert abs(agreeing - count / 2) < 5 * sqrt(count / 4)
