import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import MeaningGateConfig
from laclip_ray.rewriting.judging.meaning import (
    MEANING_ADDED,
    MEANING_LOST,
    UNLIKELY,
    MeaningScorer,
    MeaningScores,
    faithfulness,
    refusal,
)
from tests.unit.rewriting.meaning_fakes import embed

words = st.sampled_from(["dog", "cat", "red", "blue", "house", "3", "seven", "runs", "the", "stunning"])
texts = st.lists(words, min_size=1, max_size=6).map(" ".join)
pairs = st.tuples(texts, texts)
scores = st.builds(MeaningScores, st.floats(-1, 1), st.floats(0, 20))


@given(text=texts)
def test_a_copy_has_the_best_scores(text: str) -> None:
    [found] = MeaningScorer(embed).score([(text, text)])
    assert found.meaning == pytest.approx(1.0, abs=1e-5)
    assert found.added == 0


@given(batch=st.lists(pairs, max_size=8))
def test_a_score_depends_on_its_pair_alone(batch: list[tuple[str, str]]) -> None:
    together = MeaningScorer(embed).score(batch)
    alone = [MeaningScorer(embed).score([pair])[0] for pair in batch]
    assert np.allclose(np.array(together).reshape(-1, 2), np.array(alone).reshape(-1, 2), atol=1e-5)


def test_an_invented_number_counts_in_full() -> None:
    [found] = MeaningScorer(embed).score([("a dog", "a dog 7")])
    assert found.added == pytest.approx(1.0)


def test_a_foreign_word_counts_by_its_distance_from_the_closest_of_the_caption() -> None:
    [found] = MeaningScorer(embed).score([("dog house", "dog blue")])
    blue, *known = embed(["blue", "dog house", "dog", "house"])
    assert found.added == pytest.approx(1 - max(float(blue @ vector) for vector in known), abs=1e-5)


def test_words_are_encoded_once() -> None:
    encoded: list[str] = []

    def counting(batch: list[str]) -> np.ndarray:
        encoded.extend(batch)
        return embed(batch)

    scorer = MeaningScorer(counting)  # type: ignore[arg-type]
    scorer.score([("dog", "red cat")])
    scorer.score([("dog", "cat red dog")])
    assert [encoded.count(word) for word in ("cat", "red")] == [1, 1]


@given(found=scores)
def test_a_refusal_names_what_is_missing_or_what_is_too_much(found: MeaningScores) -> None:
    config = MeaningGateConfig(added_weight=0.2, min_faithfulness=0.6)
    reason = refusal(found, config)
    assert (reason is None) == (faithfulness(found, config) >= 0.6)
    if reason is not None:
        assert reason == (MEANING_LOST if found.meaning < 0.6 else MEANING_ADDED)


@given(found=scores, log_probability=st.floats(-5, 0))
def test_a_text_that_its_model_finds_unlikely_is_less_faithful_from_a_bound_on(
    found: MeaningScores, log_probability: float
) -> None:
    config = MeaningGateConfig(typical_log_probability=-1.0, unlikely_weight=0.5)
    cost = faithfulness(found, config) - faithfulness(found, config, log_probability)
    assert cost == pytest.approx(0.5 * max(0.0, -1.0 - log_probability))
    if refusal(found, config) is None:
        assert refusal(found, config, log_probability) in (None, UNLIKELY)


@given(found=scores, threshold=st.floats(-1, 1))
def test_a_higher_threshold_accepts_no_more(found: MeaningScores, threshold: float) -> None:
    low, high = (MeaningGateConfig(min_faithfulness=value) for value in sorted((threshold, 0.5)))
    assert refusal(found, high) is not None or refusal(found, low) is None
