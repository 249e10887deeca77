"""The text choice is pure, nested in p, and fair."""

from itertools import pairwise
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import RampConfig, TextConfig
from laclip_ray.data.text_choice import (
    FALLBACKS,
    Rewrites,
    ShardRewrites,
    ShownText,
    TextChoice,
    TextPolicy,
    newest_shares,
    renamed_samples,
    text_policy,
    text_shares,
)

shares = st.floats(0.0, 1.0)
seeds = st.integers(0, 2**40)
epochs = st.integers(0, 100)
rewrite_lists = st.none() | st.lists(st.text(), max_size=5)


def choose_text(
    caption: str, rewrites: list[str] | None, p: float, seed: int, epoch: int, sample_id: str
) -> TextChoice:
    accepted = None if rewrites is None else Rewrites(rewrites)
    return TextPolicy("sample", 1, p, p, 1).choose(caption, accepted, seed, epoch, sample_id)


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
        if smaller.shown == ShownText.REWRITE:
            assert larger == smaller._replace(p=larger.p)


@given(seed=seeds, epoch=epochs, sample_id=st.text(), rewrites=rewrite_lists)
def test_the_caption_is_always_shown_at_p_0_and_never_chosen_at_p_1(
    seed: int, epoch: int, sample_id: str, rewrites: list[str] | None
) -> None:
    assert choose_text("caption", rewrites, 0.0, seed, epoch, sample_id).shown == ShownText.CAPTION
    assert choose_text("caption", rewrites, 1.0, seed, epoch, sample_id).shown != ShownText.CAPTION


@given(p=shares, seed=seeds, epoch=epochs, sample_id=st.text(), rewrites=rewrite_lists)
def test_the_text_is_of_the_kind_that_shown_says(
    p: float, seed: int, epoch: int, sample_id: str, rewrites: list[str] | None
) -> None:
    choice = choose_text("caption", rewrites, p, seed, epoch, sample_id)
    if choice.shown == ShownText.REWRITE:
        assert choice.text in (rewrites or [])
    else:
        assert choice.text == "caption"
    assert (choice.shown == ShownText.NOT_REWRITTEN) <= (rewrites is None)
    assert (choice.shown == ShownText.NO_ACCEPTED_REWRITE) <= (rewrites == [])


@given(p=shares, seed=seeds, epoch=epochs, sample_id=st.text())
def test_a_sample_falls_back_exactly_when_it_would_show_a_rewrite(
    p: float, seed: int, epoch: int, sample_id: str
) -> None:
    shows_rewrite = choose_text("caption", ["a"], p, seed, epoch, sample_id).shown == ShownText.REWRITE
    without_rewrites: tuple[list[str] | None, ...] = (None, [])
    for rewrites in without_rewrites:
        assert (choose_text("caption", rewrites, p, seed, epoch, sample_id).shown in FALLBACKS) == shows_rewrite


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_the_share_of_rewrites_is_p(p: float) -> None:
    count = 5_000
    shown_texts = [choose_text("c", ["a", "b"], p, 1, 0, str(number)).shown for number in range(count)]
    shown = shown_texts.count(ShownText.REWRITE)
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
        return [choice.shown == ShownText.REWRITE for choice in choices]

    base = rewritten(0, 0, "x")
    for other in (rewritten(1, 0, "x"), rewritten(0, 1, "x"), rewritten(0, 0, "y")):
        agreeing = sum(one == two for one, two in zip(base, other, strict=True))
        assert abs(agreeing - count / 2) < 5 * sqrt(count / 4)


# --- p of an epoch


def test_a_ramp_goes_from_start_to_end_in_equal_steps_and_stays_there() -> None:
    policy = text_policy(TextConfig(p=RampConfig(start=0.2, end=0.8, epochs=4)), epochs=6, rewrites=4)
    assert [policy.p(epoch) for epoch in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_a_ramp_without_a_length_ends_with_the_last_epoch() -> None:
    policy = text_policy(TextConfig(p=RampConfig(start=1.0, end=0.0)), epochs=3, rewrites=4)
    assert [policy.p(epoch) for epoch in range(3)] == pytest.approx([1.0, 0.5, 0.0])


@pytest.mark.parametrize("rewrites", [0, 1, 4])
def test_uniform_is_the_papers_p(rewrites: int) -> None:
    assert text_policy(TextConfig(p="uniform"), epochs=2, rewrites=rewrites).p(1) == rewrites / (rewrites + 1)


def test_shares_weigh_the_p_of_each_epoch_by_its_samples() -> None:
    policy = text_policy(TextConfig(p=RampConfig(start=0.0, end=1.0)), epochs=2, rewrites=1)
    counts: dict[int, dict[int, int]] = {
        0: {ShownText.CAPTION: 30},
        1: {ShownText.REWRITE: 6, ShownText.NOT_REWRITTEN: 4},
    }
    assert text_shares(counts, policy) == {
        "p": 0.25,
        "p_effective": 0.15,
        "fallbacks": {"no_accepted_rewrite": 0, "not_rewritten": 4, "rewrite_refused": 0},
        "unscored": 0,
    }


def test_the_late_share_counts_samples_whose_rewrites_were_not_committed() -> None:
    counts: dict[int, dict[int, int]] = {
        0: {ShownText.NOT_REWRITTEN: 100},
        1: {
            ShownText.CAPTION: 2,
            ShownText.REWRITE: 4,
            ShownText.NO_ACCEPTED_REWRITE: 1,
            ShownText.NOT_REWRITTEN: 3,
        },
    }
    assert newest_shares(counts) == {"p_effective_in_epoch": 0.4, "late_share_in_epoch": 3 / 8}
    assert newest_shares({}) == {"p_effective_in_epoch": 0.0, "late_share_in_epoch": 0.0}


# --- weights


def test_a_rewrite_is_shown_in_proportion_to_its_weight() -> None:
    count = 5_000
    rewrites = Rewrites(["a", "b", "c"], [3.0, 0.0, 1.0])
    policy = text_policy(TextConfig(p=1.0), 1, 3)
    texts = [policy.choose("caption", rewrites, 1, 0, str(number)).text for number in range(count)]
    assert texts.count("b") == 0
    assert abs(texts.count("a") - 0.75 * count) < 5 * sqrt(count * 3 / 16)


@given(weights=st.lists(st.floats(0.001, 1e6), min_size=1, max_size=6), seed=seeds, epoch=epochs, sample_id=st.text())
def test_any_weights_give_one_of_the_rewrites(weights: list[float], seed: int, epoch: int, sample_id: str) -> None:
    rewrites = Rewrites([str(number) for number in range(len(weights))], weights)
    choice = text_policy(TextConfig(p=1.0), 1, 6).choose("caption", rewrites, seed, epoch, sample_id)
    assert choice.text in rewrites.texts


# --- several texts an image


@given(rewrites=rewrite_lists, seed=seeds, epoch=epochs, sample_id=st.text())
def test_both_shows_the_caption_and_a_rewrite_if_any(
    rewrites: list[str] | None, seed: int, epoch: int, sample_id: str
) -> None:
    accepted = None if rewrites is None else Rewrites(rewrites)
    choice = text_policy(TextConfig(mode="both", p=0.0), 1, 5).choose("caption", accepted, seed, epoch, sample_id)
    assert choice.texts == ("caption", choose_text("caption", rewrites, 1.0, seed, epoch, sample_id).text)
    assert (choice.shown == ShownText.REWRITE) == bool(rewrites)


@given(p=shares, rewrites=rewrite_lists, seed=seeds, epoch=epochs, sample_id=st.text())
def test_multi_shows_every_text_and_draws_the_same_text_as_sample(
    p: float, rewrites: list[str] | None, seed: int, epoch: int, sample_id: str
) -> None:
    accepted = None if rewrites is None else Rewrites(rewrites)
    choice = text_policy(TextConfig(mode="multi", p=p), 1, 5).choose("caption", accepted, seed, epoch, sample_id)
    assert len(choice.texts) == 6
    assert choice.texts[: choice.distinct] == ("caption", *(rewrites or []))
    assert set(choice.texts) == set(choice.texts[: choice.distinct])
    expected = choose_text("caption", rewrites, p, seed, epoch, sample_id)
    assert (choice.text, choice.shown) == (expected.text, expected.shown)


# --- samples that are stored under another id


KEYS = [("a.jpg", "h1"), ("b.jpg", "h2"), ("c.jpg", "h1"), ("d.jpg", "h3")]
BY_HASH = [("h1", "h1"), ("h2", "h2"), ("h1#2", "h1"), ("h3", "h3")]


def test_samples_with_other_ids_are_found_by_row_and_caption() -> None:
    assert renamed_samples(BY_HASH, KEYS) == dict(zip(BY_HASH, KEYS, strict=True))
    rewrites = ShardRewrites({key: Rewrites([f"rewrite {row}"]) for row, key in enumerate(BY_HASH)})
    for row, (sample_id, caption_hash) in enumerate(KEYS):
        assert rewrites.of(sample_id, caption_hash, row) == Rewrites([f"rewrite {row}"])


@pytest.mark.parametrize("row", [1, 3, 4])
def test_another_caption_or_row_finds_nothing(row: int) -> None:
    rewrites = ShardRewrites({key: Rewrites(["a rewrite"]) for key in BY_HASH})
    assert rewrites.of("a.jpg", "h1", row) is None
    assert rewrites.of("a.jpg", "edited", 0) is None


KNOWN = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["h1", "h2"])), min_size=2, unique_by=lambda key: key[0]
)


@given(keys=KNOWN)
def test_samples_that_are_known_by_their_ids_are_not_renamed(keys: list[tuple[str, str]]) -> None:
    assert renamed_samples(keys, keys) == {}
    assert renamed_samples(keys, list(reversed(keys))) == {}
    assert renamed_samples(keys, [*keys[1:], ("new", "h1")]) == {}
