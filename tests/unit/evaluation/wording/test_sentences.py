"""Sentences say what the numbers support, and that they say nothing where the model guesses."""

import pytest

from laclip_ray.evaluation.bootstrap import Estimate
from laclip_ray.evaluation.wording.sentences import is_blind, on_hard_negatives, on_paraphrases, on_templates


def around(value: float, half_width: float = 0.02) -> Estimate:
    return Estimate(value, value - half_width, value + half_width, 500)


SEEING = {"preferred": around(0.8), "other_words": around(0.85), "other_order": around(0.7)}
BLIND = {"preferred": around(0.51), "other_words": around(0.53), "other_order": around(0.49)}


@pytest.mark.parametrize(
    ("found", "blind"),
    [
        (around(0.5), True),
        (around(0.3), True),
        (around(0.57), True),  # better than guessing, but hardly
        (around(0.63), False),
        (around(0.7, 0.25), True),  # not shown to be better than guessing
        (Estimate(0.9, None, None, 1), True),
    ],
)
def test_a_model_is_blind_unless_it_is_clearly_better_than_guessing(found: Estimate, blind: bool) -> None:
    assert is_blind(found) == blind


def test_a_blind_model_is_called_so() -> None:
    sentence = on_hard_negatives(BLIND)
    assert sentence.startswith(
        "Images prefer their caption to 51.0 % (49.0 to 53.0) of the wrong captions (words: 53.0"
    )
    assert sentence.endswith("the model hardly reads the words, so a small change under other words says nothing.")


def test_too_few_images_do_not_tell_whether_a_model_reads() -> None:
    few = {name: Estimate(0.0, None, None, 1) for name in ("preferred", "other_words")}
    assert on_hard_negatives(few).endswith("a guess: 50 %): that does not tell whether the model reads the words.")
    assert "without enough hard negatives" in on_paraphrases(around(0.6), around(0.01), few, 0.01)


def test_a_model_that_reads_words_but_not_their_order_is_called_so() -> None:
    sentence = on_hard_negatives({**SEEING, "other_order": around(0.5)})
    assert sentence.endswith("the model reads words but hardly word order, so robustness holds for the former only.")


def test_a_model_that_reads_is_called_so() -> None:
    assert on_hard_negatives(SEEING).endswith(": the model reads the words.")
    only_words = {name: SEEING[name] for name in ("preferred", "other_words")}
    assert "word order" not in on_hard_negatives(only_words)


@pytest.mark.parametrize(
    ("drop", "says"),
    [
        (around(0.05), "falls by 5.0 points (95 % interval +3.0 to +7.0): the model depends on the wording."),
        (around(0.01), "does not change more than by chance (95 % interval -1.0 to +3.0)."),
        (around(-0.05), "rises by 5.0 points (95 % interval -7.0 to -3.0): the rewrites say it better."),
        (Estimate(0.05, None, None, 1), "changes by -5.0 points (too few images for an interval)."),
    ],
)
def test_a_drop_is_read_with_its_interval(drop: Estimate, says: str) -> None:
    sentence = on_paraphrases(around(0.4), drop, SEEING, 0.002)
    assert sentence == f"With rewrites instead of captions, text-to-image R@1 of 40.0 % {says}"


def test_a_drop_of_a_blind_model_says_nothing() -> None:
    assert on_paraphrases(around(0.4), around(0.0), BLIND, 0.002).endswith(
        "; the model hardly reads the words (see the hard negatives), so this says nothing."
    )


def test_a_drop_without_hard_negatives_is_not_trusted() -> None:
    assert "may also mean that the model ignores words" in on_paraphrases(around(0.4), around(0.0), None, 0.002)


def test_a_drop_of_a_model_that_retrieves_by_chance_says_nothing() -> None:
    assert on_paraphrases(around(0.01), around(0.0), SEEING, 0.005).endswith(
        "but it is that of guessing, so this says nothing."
    )


def test_templates_that_differ_more_than_by_chance_matter() -> None:
    assert on_templates(around(0.23), around(0.6), 0.041, 0.02, "a {c}", 37) == (
        "Another template changes 23.0 % of the predictions, and accuracies differ by 4.1 points, more than by chance "
        "(2.0): the choice of the template matters, and the worst is 'a {c}'."
    )


def test_templates_that_differ_by_chance_do_not() -> None:
    assert on_templates(around(0.23), around(0.6), 0.01, 0.02, "a {c}", 37).endswith(
        "as they do by chance (2.0): no template is better than another."
    )


def test_predictions_of_a_model_that_guesses_say_nothing() -> None:
    assert on_templates(around(0.0), around(0.03), 0.0, 0.02, "a {c}", 37).endswith(
        "but the accuracy of 3.0 % is that of guessing, so this says nothing."
    )
