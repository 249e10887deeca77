"""Compare two evaluated checkpoints, metric by metric, on the same images.

A difference counts as larger than chance if its 95 % interval (paired, by bootstrap over images) excludes zero. It says
that other images of the same kind would show it too. It does not say that another training run would: seeds decide
this. Few-shot classification is paired over its episodes instead, so its interval says what other episodes of the same
images would show. Of many equal metrics, one in twenty differs more than chance by chance, which `summary` says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from laclip_ray.evaluation.bootstrap import RESAMPLES, Estimate, differences
from laclip_ray.evaluation.per_image import PerImage, Values

SetKey = tuple[str, str]
"""The task and the dataset of an entry in `results.json`."""

_CHANCE = 0.05
"""Share of the intervals that exclude zero although there is no difference."""


@dataclass(frozen=True)
class Row:
    """One metric of one set, for two checkpoints A and B."""

    task: str
    dataset: str
    metric: str
    """Empty for a set that cannot be compared."""
    a: float | None
    """Copied from the results of A, over all its images. None: A has no interval."""
    b: float | None
    difference: Estimate | None
    """B minus A on the common images or episodes. None: the two are not compared."""
    sentence: str
    """Whether the difference is larger than chance, or why this is unknown."""


def compare(
    results_a: Mapping[str, Any],
    results_b: Mapping[str, Any],
    images_a: Mapping[SetKey, PerImage],
    images_b: Mapping[SetKey, PerImage],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Row]:
    """Compare two contents of `results.json`, on the same images or episodes.

    Args:
        results_a: of the first checkpoint; `results` is a list of entries with `task`, `dataset` and metrics. Metrics
            are floats, also in nested objects (`wording.flip_rate`).
        results_b: of the second checkpoint.
        images_a: by set, the values of the images or episodes of A. A set may be missing.
        images_b: of B.
        resamples: for the intervals.
        seed: of the resamples.

    Returns:
        A row for each metric of each set that one of the two has, in the order of A, then of B.
    """
    entries_a, entries_b = _by_set(results_a), _by_set(results_b)
    rows: list[Row] = []
    for key in {**entries_a, **entries_b}:
        if reason := _not_comparable(entries_a.get(key), entries_b.get(key)):
            rows.append(Row(*key, "", None, None, None, reason))
            continue
        pairs, note = _paired(images_a.get(key), images_b.get(key))
        note += _other_settings(entries_a[key], entries_b[key])
        unit = images_a[key].unit if key in images_a else "image"
        found = differences(pairs, resamples, seed)
        shares_a, shares_b = dict(_metrics(entries_a[key])), dict(_metrics(entries_b[key]))
        for metric in {**shares_a, **shares_b}:
            a, b = shares_a.get(metric), shares_b.get(metric)
            sentence = _sentence(a, b, found.get(metric), unit) + note
            rows.append(Row(*key, metric, a, b, found.get(metric), sentence))
    return rows


def summary(rows: Sequence[Row]) -> str:
    """One sentence: how many differences are larger than chance, and how many would be so by chance alone."""
    compared = [row.difference for row in rows if row.difference is not None and row.difference.low is not None]
    if not compared:
        return "No difference has an interval, so none can be told from chance."
    larger = sum(difference.excludes_zero for difference in compared)
    return (
        f"{larger} of {len(compared)} differences {'is' if larger == 1 else 'are'} larger than chance; between equal "
        f"checkpoints about {_CHANCE * len(compared):.1f} would be."
    )


def _by_set(results: Mapping[str, Any]) -> dict[SetKey, Mapping[str, Any]]:
    return {(entry["task"], entry["dataset"]): entry for entry in results["results"]}


def _not_comparable(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> str:
    """Why a set cannot be compared; empty if it can."""
    for name, entry in (("A", a), ("B", b)):
        if entry is None:
            return f"{name} was not measured on this set."
        if "no_result" in entry:
            return f"{name} has no result: {entry['no_result']}."
    return ""


def _metrics(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The metrics of an entry: its floats; names of nested floats are paths."""
    for name, value in entry.items():
        if isinstance(value, float):
            yield prefix + name, value
        elif isinstance(value, Mapping):
            yield from _metrics(value, f"{prefix}{name}.")


def _paired(a: PerImage | None, b: PerImage | None) -> tuple[dict[str, tuple[Values, Values]], str]:
    """By metric, the values of both on the images or episodes that both have, by id; and a remark if some are missing.

    Episodes have their images in their ids. Runs with other seeds, settings or images have no episodes in common.
    """
    if a is None or b is None:
        return {}, ""
    row_of_a = {own: row for row, own in enumerate(a.ids)}
    row_of_b = {own: row for row, own in enumerate(b.ids)}
    # Sorted: the resamples must not depend on the order of reading.
    common = sorted(row_of_a.keys() & row_of_b.keys())
    rows_a = np.array([row_of_a[own] for own in common], np.int64)
    rows_b = np.array([row_of_b[own] for own in common], np.int64)
    pairs = {
        name: (a.metrics[name].take(rows_a), b.metrics[name].take(rows_b)) for name in a.metrics if name in b.metrics
    }
    if len(common) == len(a.ids) == len(b.ids):
        return pairs, ""
    return pairs, f" They share {len(common):,} {a.unit}s; A has {len(a.ids):,}, B has {len(b.ids):,}."


def _other_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """A remark if texts of the two entries differ, such as the digest of the templates; empty if not."""
    names = [name for name, value in a.items() if isinstance(value, str) and isinstance(b.get(name), str)]
    if differing := [name for name in names if a[name] != b[name]]:
        return f" They were measured differently: {', '.join(differing)}."
    return ""


def _sentence(a: float | None, b: float | None, found: Estimate | None, unit: str = "image") -> str:
    """One sentence on a metric.

    Args:
        a: the metric of A. None: A lacks it.
        b: the metric of B.
        found: their difference.
        unit: the paired things.

    >>> _sentence(0.40, 0.48, Estimate(0.08, 0.05, 0.11, 5_000))
    'B is higher by 8.0 points (95 % interval +5.0 to +11.0): larger than chance.'
    """
    if a is None or b is None:
        return f"{'A' if a is None else 'B'} has no such metric."
    if found is None:
        return f"The values of the {unit}s are missing, so the difference cannot be told from chance."
    if found.low is None or found.high is None:
        return f"The difference cannot be told from chance with {found.images} common {unit}s."
    if found.value == found.low == found.high == 0:
        return f"Every {unit} has the same value with both."
    over = "" if unit == "image" else f" over {unit}s of the same images"
    interval = f"(95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f}{over})"
    if not found.excludes_zero:
        return f"The difference of {100 * found.value:+.1f} points {interval} is not larger than chance."
    higher = "higher" if found.value > 0 else "lower"
    return f"B is {higher} by {100 * abs(found.value):.1f} points {interval}: larger than chance."
