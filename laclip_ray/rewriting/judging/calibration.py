"""Thresholds of the meaning gate for a wanted precision, from rewrites that people labelled. Pure functions.

A labelled rewrite is faithful if somebody who knows only the caption would accept it as a caption of the same picture:
nothing visible invented, the main content kept.

    precision  share of faithful rewrites among the accepted ones
    recall     share of accepted rewrites among the faithful ones

The thresholds are those with the most recall among all with the wanted precision. Chosen and measured on the same
labels they look too good, so each rewrite is judged once more with thresholds found without its fold of the labels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.intervals import Proportion, proportion_interval
from laclip_ray.randomness import hash64

WEIGHTS = tuple(round(0.02 * step, 2) for step in range(31))
"""The tried values of `added_weight`."""
FOLDS = 10
LEAST_LABELS = 50
"""Of each kind. With fewer, an interval of precision is wider than a fifth."""
_FIELDS = {"caption": str, "rewrite": str, "faithful": bool}


@dataclass(frozen=True)
class LabelledRewrite:
    """A rewrite, and whether a person finds it faithful."""

    caption: str
    rewrite: str
    faithful: bool


@dataclass(frozen=True)
class Thresholds:
    """The two settings of the meaning gate that decide."""

    added_weight: float
    min_faithfulness: float

    def accept(self, scores: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of N pairs are accepted, by their scores [N, 2] (meaning, added)."""
        accepted: NDArray[np.bool_] = _faithfulness(scores, self.added_weight) >= self.min_faithfulness
        return accepted


@dataclass(frozen=True)
class Quality:
    """How verdicts agree with labels."""

    precision: Proportion
    recall: Proportion

    @classmethod
    def of(cls, accepted: NDArray[np.bool_], faithful: NDArray[np.bool_]) -> "Quality":
        """The quality of verdicts [N] by labels [N]."""
        both = int(np.sum(accepted & faithful))
        return cls(proportion_interval(both, int(np.sum(accepted))), proportion_interval(both, int(np.sum(faithful))))


def read_labelled(url: str) -> list[LabelledRewrite]:
    """Read labelled rewrites from JSON lines with the keys caption, rewrite and faithful.

    Raises:
        UserError: the file is missing or a line is not such an object.
    """
    try:
        content = storage.read_bytes(url).decode()
    except FileNotFoundError as error:
        raise UserError(f"{url}: there is no such file of labelled rewrites") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{url} is not UTF-8; save it as UTF-8") from error
    rewrites = []
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            rewrites.append(_parse_labelled(line, f"{url}, line {number}"))
    return rewrites


def _parse_labelled(line: str, where: str) -> LabelledRewrite:
    try:
        entry: Any = json.loads(line)
        values = [entry[name] for name in _FIELDS]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{where}: expected a JSON object with the keys {', '.join(_FIELDS)}") from error
    for (name, kind), value in zip(_FIELDS.items(), values, strict=True):
        if not isinstance(value, kind):
            raise UserError(f"{where}: {name} must be {'true or false' if kind is bool else 'a text'}, got {value!r}")
    return LabelledRewrite(*values)


def find_thresholds(
    scores: NDArray[np.float32], faithful: NDArray[np.bool_], precision: float, weights: Sequence[float] = WEIGHTS
) -> Thresholds | None:
    """The thresholds with the most recall among those with the wanted precision; None if all have less.

    Args:
        scores: [N, 2], meaning and added.
        faithful: [N].
        precision: the least share of faithful rewrites among the accepted ones.
        weights: values of `added_weight` to try.
    """
    best: tuple[int, float, float] | None = None
    for weight in weights:
        values = _faithfulness(scores, weight)
        order = np.argsort(-values, kind="stable")
        kept = np.cumsum(faithful[order])
        good = kept / np.arange(1, len(order) + 1) >= precision
        # Equal values are accepted together, so only the last of them is a threshold.
        good[:-1] &= values[order][:-1] > values[order][1:]
        if not good.any():
            continue
        last = int(np.flatnonzero(good)[-1])
        below = values[order][last + 1] if last + 1 < len(order) else values[order][last] - 0.02
        found = (int(kept[last]), -weight, float(values[order][last] + below) / 2)
        best = found if best is None else max(best, found)
    return None if best is None else Thresholds(-best[1], best[2])


def cross_validated(
    scores: NDArray[np.float32], faithful: NDArray[np.bool_], precision: float, keys: Sequence[str]
) -> NDArray[np.bool_]:
    """Verdicts [N], each with thresholds found without the fold of its key.

    Args:
        scores: [N, 2], meaning and added.
        faithful: [N].
        precision: the wanted precision.
        keys: [N], what decides the fold: rewrites of one caption belong together.
    """
    folds = np.array([hash64("fold", key) % FOLDS for key in keys])
    accepted = np.zeros(len(folds), bool)
    for fold in range(FOLDS):
        inside = folds == fold
        thresholds = find_thresholds(scores[~inside], faithful[~inside], precision)
        if thresholds is not None:
            accepted[inside] = thresholds.accept(scores[inside])
    return accepted


def _faithfulness(scores: NDArray[np.float32], added_weight: float) -> NDArray[np.float64]:
    values: NDArray[np.float64] = scores[:, 0].astype(float) - added_weight * scores[:, 1]
    return values
