"""Choices by a score and shares of refused rewrites: pure, nested in p, in the stated shares, and counted."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from laclip_ray.config import ScoreChoiceConfig, ScoreRampConfig, TextConfig
from laclip_ray.data.text_choice import (
    FALLBACKS,
    LOWER_IS_BETTER,
    SHOWS_REWRITE,
    Rewrites,
    ShownText,
    TextChoice,
    TextPolicy,
    p_of_score,
    text_policy,
    text_shares,
    weighted_by_score,
)

COUNT = 5_000
CAPTION = "a dog runs over the grass"

shares = st.floats(0.0, 1.0)
scores = st.none() | st.floats(-5.0, 5.0)
some_rewrites = st.lists(st.tuples(st.floats(0.01, 10.0), scores), max_size=4).flatmap(
    lambda rewrites: st.builds(
        Rewrites,
        st.just([str(number) for number in range(len(rewrites))]),
        st.just([weight for weight, _ in rewrites]),
        st.sampled_from([0.0, 1.0, 2.5]),
        st.sampled_from([0.0, 0.5]),
        st.just({"meaning": [score for _, score in rewrites], "added": [score for _, score in rewrites]}),
    )
)


def ramp(by: str = "meaning", **changes: Any) -> ScoreRampConfig:
    return ScoreRampConfig.model_validate(
        {"by": by, "low": 0.0, "high": 1.0, "p_low": 0.8, "p_high": 0.2, "unscored": 0.5, **changes}
    )


def policy_of(**text: Any) -> TextPolicy:
    return text_policy(TextConfig.model_validate(text), epochs=4, rewrites=4)


def choices_of(
    policy: TextPolicy, rewrites: Rewrites | None, count: int = COUNT, caption: str = CAPTION
) -> list[TextChoice]:
    return [policy.choose(caption, rewrites, 3, 1, f"s{number}") for number in range(count)]


def assert_shares(choices: Sequence[TextChoice], expected: Mapping[str, float]) -> None:
    """Every text is shown in its share of the samples, within five standard deviations."""
    shown = Counter(choice.text for choice in choices)
    assert shown.keys() <= expected.keys()
    for text, share in expected.items():
        assert abs(shown[text] - share * len(choices)) <= 5 * sqrt(len(choices) * share * (1 - share))


# --- p by a score


@given(low=shares, high=shares, unscored=shares, values=st.lists(st.floats(-2.0, 3.0), min_size=2).map(sorted))
def test_p_is_linear_between_the_two_scores_and_constant_outside(
    low: float, high: float, unscored: float, values: list[float]
) -> None:
    config = ramp(p_low=low, p_high=high, unscored=unscored)
    for value in values:
        expected = low + (high - low) * min(1.0, max(0.0, value))
        assert p_of_score(config, value) == pytest.approx(expected)
    assert p_of_score(config, None) == unscored
    ordered = [p_of_score(config, value) for value in values]
    rises = [one <= other + 1e-12 for one, other in pairwise(ordered)]
    falls = [one >= other - 1e-12 for one, other in pairwise(ordered)]
    assert all(rises) if low <= high else all(falls)


@given(
    ps=st.lists(st.tuples(shares, shares, shares), min_size=2, max_size=2),
    rewrites=some_rewrites,
    epoch=st.integers(0, 100),
    sample_id=st.text(),
    choice=st.sampled_from(["uniform", {"by": "added", "temperature": 0.3}]),
)
def test_raising_p_by_a_score_only_turns_captions_into_rewrites(
    ps: list[tuple[float, float, float]], rewrites: Rewrites, epoch: int, sample_id: str, choice: Any
) -> None:
    lower = [min(pair) for pair in zip(*ps, strict=True)]
    upper = [max(pair) for pair in zip(*ps, strict=True)]
    names = ("p_low", "p_high", "unscored")
    smaller, larger = (
        policy_of(p=ramp(**dict(zip(names, values, strict=True))), choice=choice).choose(
            CAPTION, rewrites, 1, epoch, sample_id
        )
        for values in (lower, upper)
    )
    assert smaller.p <= larger.p
    if smaller.shown in SHOWS_REWRITE:
        assert (larger.text, larger.shown) == (smaller.text, smaller.shown)
    elif smaller.shown in FALLBACKS:
        assert larger.shown == smaller.shown


@given(rewrites=some_rewrites, epoch=st.integers(0, 100), sample_id=st.text(), by=st.sampled_from(["meaning", "added"]))
def test_a_choice_by_scores_is_a_function_of_its_arguments(
    rewrites: Rewrites, epoch: int, sample_id: str, by: str
) -> None:
    policy = policy_of(p=ramp(), choice={"by": by, "temperature": 0.5}, refused="caption")
    first = policy.choose(CAPTION, rewrites, 1, epoch, sample_id)
    assert policy.choose(CAPTION, rewrites, 1, epoch, sample_id) == first


def test_each_rewrite_is_shown_with_the_p_of_its_own_score() -> None:
    rewrites = Rewrites(["poor", "good"], scores={"meaning": [0.0, 1.0]})
    choices = choices_of(policy_of(p=ramp()), rewrites)
    assert_shares(choices, {"poor": 0.4, "good": 0.1, "caption": 0.0, CAPTION: 0.5})
    assert sum(choice.p for choice in choices) / COUNT == pytest.approx(0.5, abs=0.02)


def test_the_caption_picture_score_is_that_of_the_sample_even_if_a_set_lacks_it() -> None:
    rewrites = Rewrites(["first", "second"], scores={"caption_picture": [None, 1.0]})
    choices = choices_of(policy_of(p=ramp("caption_picture")), rewrites)
    assert_shares(choices, {"first": 0.1, "second": 0.1, CAPTION: 0.8})
    assert {choice.p for choice in choices} == {0.2}


@pytest.mark.parametrize(("caption", "p"), [("dog", 0.9), ("a dog on the grass", 0.5), ("a " * 20, 0.1)])
def test_p_by_the_words_of_the_caption_needs_no_stored_score(caption: str, p: float) -> None:
    policy = policy_of(p={"by": "caption_words", "low": 1, "high": 9, "p_low": 0.9, "p_high": 0.1})
    choices = choices_of(policy, Rewrites(["a"]), caption=caption)
    assert_shares(choices, {"a": p, caption: 1 - p})
    assert {choice.shown for choice in choices} == {ShownText.CAPTION, ShownText.REWRITE}


def test_samples_without_the_score_have_the_stated_p_and_are_counted() -> None:
    policy = policy_of(p=ramp(unscored=0.7))
    rewrites = Rewrites(["a"], scores={"meaning": [None]})
    choices = choices_of(policy, rewrites)
    assert_shares(choices, {"a": 0.7, CAPTION: 0.3})
    assert {choice.shown for choice in choices} == {ShownText.CAPTION_UNSCORED, ShownText.REWRITE_UNSCORED}
    counts = Counter(int(choice.shown) for choice in choices)
    shares_of_run = text_shares({0: counts}, policy, {0: sum(choice.p for choice in choices)})
    assert shares_of_run["unscored"] == COUNT
    assert shares_of_run["p"] == pytest.approx(0.7)
    assert shares_of_run["p_effective"] == counts[ShownText.REWRITE_UNSCORED] / COUNT


def test_the_requested_p_of_a_run_is_the_mean_over_its_samples() -> None:
    policy = policy_of(p=ramp())
    counts: dict[int, dict[int, int]] = {
        0: {ShownText.CAPTION: 3, ShownText.REWRITE: 1},
        1: {ShownText.REWRITE: 4},
    }
    assert text_shares(counts, policy, {0: 1.0, 1: 3.0})["p"] == 0.5
    assert text_shares({1: counts[1]}, policy, {0: 1.0, 1: 3.0})["p"] == 0.75


# --- the choice by a score


@given(
    rewrites=st.lists(st.tuples(st.floats(0.0, 10.0), scores), min_size=1, max_size=5),
    temperature=st.floats(1e-3, 1e3),
    by=st.sampled_from(["meaning", "added"]),
)
@example(rewrites=[(1.0, 0.0), (5e-324, 3.0)], temperature=0.004, by="meaning")
def test_weights_by_score_keep_their_sum_and_follow_the_score(
    rewrites: list[tuple[float, float | None]], temperature: float, by: Literal["meaning", "added"]
) -> None:
    weights, values = [weight for weight, _ in rewrites], [score for _, score in rewrites]
    found = weighted_by_score(weights, values, ScoreChoiceConfig(by=by, temperature=temperature))
    assert sum(found) == pytest.approx(sum(weights))
    sign = -1 if by in LOWER_IS_BETTER else 1
    for one in range(len(rewrites)):
        assert found[one] >= 0
        for other in range(len(rewrites)):
            first, second = values[one], values[other]
            if first is not None and second is not None and sign * first > sign * second and weights[other] > 0:
                assert found[one] * weights[other] >= found[other] * weights[one] * (1 - 1e-9)


def test_a_better_rewrite_is_shown_e_times_as_often_for_each_temperature() -> None:
    rewrites = Rewrites(["worse", "better"], scores={"log_probability": [-2.0, -1.5]})
    policy = policy_of(p=1.0, choice={"by": "log_probability", "temperature": 0.5})
    assert_shares(choices_of(policy, rewrites), {"worse": 1 / (1 + math.e), "better": math.e / (1 + math.e)})


def test_of_added_words_fewer_are_better() -> None:
    rewrites = Rewrites(["faithful", "invented"], scores={"added": [0.0, 1.0]})
    policy = policy_of(p=1.0, choice={"by": "added", "temperature": 1.0})
    assert_shares(choices_of(policy, rewrites), {"faithful": math.e / (1 + math.e), "invented": 1 / (1 + math.e)})


def test_a_rewrite_without_a_score_counts_like_the_mean_of_the_others() -> None:
    weights = weighted_by_score([1, 1, 1], [1.0, 3.0, None], ScoreChoiceConfig(by="meaning", temperature=1.0))
    assert weights[2] == pytest.approx(sqrt(weights[0] * weights[1]))


def test_without_any_score_all_rewrites_are_equally_likely_and_counted() -> None:
    policy = policy_of(p=1.0, choice={"by": "meaning", "temperature": 0.1})
    for rewrites in (Rewrites(["a", "b"]), Rewrites(["a", "b"], scores={"meaning": [None, None]})):
        choices = choices_of(policy, rewrites)
        assert_shares(choices, {"a": 0.5, "b": 0.5})
        assert {choice.shown for choice in choices} == {ShownText.REWRITE_UNSCORED}


# --- the share of a refused rewrite


@pytest.mark.parametrize("accepted", [1, 2, 4])
def test_in_the_paper_each_accepted_rewrite_has_one_share_of_1_plus_m(accepted: int) -> None:
    rewrites = Rewrites([str(number) for number in range(accepted)], refused=4.0 - accepted)
    choices = choices_of(policy_of(p="uniform", refused="caption"), rewrites)
    assert_shares(choices, {**dict.fromkeys(rewrites.texts, 0.2), CAPTION: 1 - 0.2 * accepted})


@given(p=shares, accepted=st.integers(1, 4), refused=st.integers(0, 3), missing=st.integers(0, 3))
def test_at_any_p_a_slot_without_a_rewrite_shows_the_caption(
    p: float, accepted: int, refused: int, missing: int
) -> None:
    rewrites = Rewrites([str(number) for number in range(accepted)], (), refused, missing)
    count, slots = 400, accepted + refused + missing
    shown = Counter(choice.shown for choice in choices_of(policy_of(p=p, refused="caption"), rewrites, count))
    expected = {
        ShownText.CAPTION: 1 - p,
        ShownText.REWRITE: p * accepted / slots,
        ShownText.REWRITE_REFUSED: p * refused / slots,
        ShownText.NOT_REWRITTEN: p * missing / slots,
    }
    assert shown.keys() <= expected.keys()
    for kind, share in expected.items():
        # Few samples of many examples: a wide bound, and none where the share is 0.
        assert abs(shown[kind] - share * count) <= 6 * sqrt(count * share * (1 - share)) + 6 * (0 < share < 1)


def test_a_score_decides_only_among_the_accepted_rewrites() -> None:
    rewrites = Rewrites(["worse", "better"], refused=2.0, scores={"meaning": [0.0, 1.0]})
    policy = policy_of(p=0.8, choice={"by": "meaning", "temperature": 1.0}, refused="caption")
    shares_of_accepted = {"worse": 1 / (1 + math.e), "better": math.e / (1 + math.e)}
    expected = {text: 0.4 * share for text, share in shares_of_accepted.items()}
    assert_shares(choices_of(policy, rewrites), {**expected, CAPTION: 0.6})


@pytest.mark.parametrize("mode", ["sample", "both", "multi"])
def test_every_mode_shows_the_caption_in_place_of_a_refused_rewrite(mode: str) -> None:
    policy = policy_of(p=0.5, mode=mode, refused="caption") if mode != "both" else policy_of(mode=mode)
    refused = [
        choice
        for choice in choices_of(policy, Rewrites(["a"], refused=1.0), 200)
        if choice.shown == ShownText.REWRITE_REFUSED
    ]
    assert refused
    for choice in refused:
        assert (choice.texts[-1] if mode == "both" else choice.text) == CAPTION
