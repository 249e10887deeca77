"""The numbers on wording in words, a sentence each.

The three results belong together. A model may keep its predictions under other words because it understands them, or
because it ignores words. Hard negatives tell the two apart, so their sentence comes first, and the other sentences say
when they mean nothing.
"""

from collections.abc import Mapping

from laclip_ray.evaluation.bootstrap import Estimate

GUESSING = 0.5
"""The share of wrong captions that a guess avoids."""
_NEARLY_GUESSING = 0.6
"""Below it, fewer than a fifth of the choices are more than guesses."""

_NO_INTERVAL = "too few images for an interval"


def is_blind(preferred: Estimate) -> bool:
    """Whether a model hardly tells captions from wrong captions, or it cannot be shown that it does.

    Args:
        preferred: share of wrong captions to which images prefer the caption.
    """
    return preferred.low is None or preferred.low <= GUESSING or preferred.value < _NEARLY_GUESSING


def on_hard_negatives(estimates: Mapping[str, Estimate]) -> str:
    """Say whether a model reads words, and their order.

    Args:
        estimates: of `hard_negative_metrics`: `preferred`, and `other_words` and `other_order` if the set has such.
    """
    overall = estimates["preferred"]
    blind = [name for name in _READ if name in estimates and is_blind(estimates[name])]
    seeing = [name for name in _READ if name in estimates and name not in blind]
    shares = "; ".join(f"{_READ[name]}: {_percent(estimates[name])}" for name in _READ if name in estimates)
    start = f"Images prefer their caption to {_percent(overall)} of the wrong captions ({shares}; a guess: 50 %)"
    if overall.low is None:
        return f"{start}: that does not tell whether the model reads the words."
    if not seeing:
        return f"{start}: the model hardly reads the words, so a small change under other words says nothing."
    if blind:
        return (
            f"{start}: the model reads {_READ[seeing[0]]} but hardly {_READ[blind[0]]}, so robustness holds for the "
            "former only."
        )
    return f"{start}: the model reads the words."


_READ = {"other_words": "words", "other_order": "word order"}


def on_paraphrases(
    recall: Estimate, drop: Estimate, hard_negatives: Mapping[str, Estimate] | None, chance: float
) -> str:
    """Say how much retrieval depends on the words of captions.

    Args:
        recall: text to image R@1 with captions.
        drop: how much it falls with rewrites.
        hard_negatives: as in `on_hard_negatives`; None if they were not measured.
        chance: the recall of a guess: 1 / images.
    """
    start = f"With rewrites instead of captions, text-to-image R@1 of {100 * recall.value:.1f} %"
    interval = _interval(drop)
    if recall.low is None or drop.low is None:
        return f"{start} changes by {-100 * drop.value:+.1f} points ({_NO_INTERVAL})."
    if recall.low <= chance:
        return f"{start} changes by {-100 * drop.value:+.1f} points, but it is that of guessing, so this says nothing."
    if not drop.excludes_zero:
        change = f"{start} does not change more than by chance {interval}"
    elif drop.value > 0:
        change = f"{start} falls by {100 * drop.value:.1f} points {interval}: the model depends on the wording"
    else:
        change = f"{start} rises by {-100 * drop.value:.1f} points {interval}: the rewrites say it better"
    if hard_negatives is None or hard_negatives["preferred"].low is None:
        return f"{change}; without enough hard negatives, a small change may also mean that the model ignores words."
    if is_blind(hard_negatives["preferred"]):
        return f"{change}; the model hardly reads the words (see the hard negatives), so this says nothing."
    return f"{change}."


def on_templates(
    flip_rate: Estimate, accuracy: Estimate, spread: float, spread_by_chance: float, worst: str, classes: int
) -> str:
    """Say how much zero-shot classification depends on the template.

    Args:
        flip_rate: share of (image, pair of templates) with different predictions.
        accuracy: `template_mean`, the mean over templates.
        spread: largest minus smallest accuracy of a template.
        spread_by_chance: what equally good templates stay below in 95 % of cases.
        worst: the template of the smallest accuracy.
        classes: their number, for the accuracy of a guess.
    """
    start = f"Another template changes {100 * flip_rate.value:.1f} % of the predictions"
    if accuracy.low is not None and accuracy.low <= 1 / classes:
        return f"{start}, but the accuracy of {100 * accuracy.value:.1f} % is that of guessing, so this says nothing."
    if spread > spread_by_chance:
        return (
            f"{start}, and accuracies differ by {100 * spread:.1f} points, more than by chance "
            f"({100 * spread_by_chance:.1f}): the choice of the template matters, and the worst is {worst!r}."
        )
    return (
        f"{start}, but accuracies differ by {100 * spread:.1f} points only, as they do by chance "
        f"({100 * spread_by_chance:.1f}): no template is better than another."
    )


def _percent(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f} % ({_NO_INTERVAL})"
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"({_NO_INTERVAL})"
    return f"(95 % interval {100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"
