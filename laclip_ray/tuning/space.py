"""The search space of a sweep, and its points: values for dotted config keys.

Guarantees: a point's name is a function of its values alone, so a rerun finds the runs it trained. A random point is a
function of (seed, number).
Not covered: keys that exclude one another. Such a point is refused before anything starts.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from laclip_ray.config import (
    CanBeSwept,
    Experiment,
    FixedInSweep,
    SpaceConfig,
    TuneConfig,
    marked_keys,
    walk,
    with_overrides,
)
from laclip_ray.config.problems import nearest_key
from laclip_ray.errors import UserError
from laclip_ray.randomness import uniform

P_KEY = "text.p"
_NAME_LENGTH = 80
_P_DIGITS = 9
"""Decimals to which two p are compared."""


@dataclass(frozen=True)
class Point:
    """One combination of values.

    >>> Point({"train.learning_rate": 0.001, "text.p": 0.5}).name
    'p0.5-learning_rate0.001'
    """

    values: Mapping[str, Any]
    """By dotted config key."""

    @property
    def name(self) -> str:
        """The name of the point's directory, and in tables."""
        # p first, then by key: searches give keys in any order.
        keys = sorted(self.values, key=lambda key: (key != P_KEY, key))
        text = "-".join(f"{key.rpartition('.')[2]}{_text(self.values[key])}" for key in keys)
        name = re.sub(r"[^A-Za-z0-9.+_-]+", "_", text)
        if all(map(_is_plain, self.values.values())) and len(name) <= _NAME_LENGTH:
            return name
        digest = hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:8]
        return f"{name[: _NAME_LENGTH - 9]}-{digest}"


def _is_plain(value: Any) -> bool:
    """Whether the text of a value differs from the text of every other value."""
    if isinstance(value, str):
        return re.fullmatch("[A-Za-z]+", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={item}" for name, item in value.items() if item is not None)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def constant_p(p: Any, rewrites: int) -> float | None:
    """The probability that a value of `text.p` means in every epoch; None for a ramp.

    Args:
        p: the configured value.
        rewrites: M, the most rewrites of a caption: the paper's uniform choice is M / (M + 1).
    """
    if p == "uniform":
        return _uniform_p(rewrites)
    return round(p, _P_DIGITS) if isinstance(p, int | float) else None


def baseline_ps(rewrites: int) -> tuple[float, float]:
    """The p of the two baselines: 0 (CLIP), and the paper's uniform choice."""
    return 0.0, _uniform_p(rewrites)


def _uniform_p(rewrites: int) -> float:
    return round(rewrites / (rewrites + 1), _P_DIGITS)


@dataclass(frozen=True)
class Space:
    """The swept keys and their values."""

    keys: Mapping[str, SpaceConfig]

    @classmethod
    def of(cls, tune: TuneConfig) -> "Space":
        """The space of a sweep. `tune.p` is short for a grid of `text.p`.

        Raises:
            UserError: there are no keys, p is given twice, or all runs must share a key.
        """
        keys = dict(tune.space)
        if tune.p is not None:
            if P_KEY in keys:
                raise UserError(f"tune.space: {P_KEY} is in tune.p too; set tune.p=null")
            keys = {P_KEY: SpaceConfig(grid=tune.model_dump(mode="json")["p"]), **keys}
        sections, fixed = marked_keys(Experiment, CanBeSwept), marked_keys(Experiment, FixedInSweep)
        for key in keys:
            if key.partition(".")[0] not in Experiment.model_fields:
                found = nearest_key(key, [facts.key for facts in walk(Experiment)])
                raise UserError(f"tune.space.{key}: unknown key" + (f"; the nearest key is {found}" if found else ""))
            if key.partition(".")[0] not in sections or key in fixed:
                raise UserError(
                    f"tune.space.{key}: is the same for all runs of a sweep; keys of text, stream, model and train can "
                    "be swept. For other data or rewrites make other sets first, and sweep text.rewrites"
                )
        if not keys:
            raise UserError("tune: nothing to sweep; give tune.p or tune.space")
        return cls(keys)

    @property
    def edges(self) -> dict[str, list[Any]]:
        """All values of each grid, and both ends of each range."""
        return {key: config.grid or list(_bounds(config)) for key, config in self.keys.items()}

    def contains(self, values: Mapping[str, Any]) -> bool:
        """Whether a stored point belongs to this space, which may have changed since."""
        if values.keys() != self.keys.keys():
            return False
        return all(_contains(config, values[key]) for key, config in self.keys.items())

    def grid(self) -> Iterator[Point]:
        """Every combination.

        Raises:
            UserError: a key has a range, which has no end of values.
        """
        for key, config in self.keys.items():
            if config.grid is None:
                raise UserError(
                    f"tune.space.{key}: a range has no end of values; give a grid, or tune.search=random or optuna"
                )
        for values in itertools.product(*(config.grid or () for config in self.keys.values())):
            yield Point(dict(zip(self.keys, values, strict=True)))

    def random(self, seed: int, points: int) -> Iterator[Point]:
        """Random points, the same ones for the same seed."""
        for number in range(points):
            yield Point(
                {key: _value_at(config, uniform("point", seed, number, key)) for key, config in self.keys.items()}
            )

    def distributions(self) -> dict[str, Any]:
        """The space for Optuna. Values of a grid are encoded as JSON, because Optuna takes only numbers and texts."""
        from optuna import distributions

        return {
            key: distributions.CategoricalDistribution([json.dumps(value) for value in config.grid])
            if config.grid is not None
            else distributions.FloatDistribution(*_bounds(config), log=config.log_uniform is not None)
            for key, config in self.keys.items()
        }

    def encode(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A point's values in the form of `distributions`."""
        return {
            key: json.dumps(value) if self.keys[key].grid is not None else float(value) for key, value in values.items()
        }

    def decode(self, values: Mapping[str, Any]) -> Point:
        """Undo `encode`."""
        return Point(
            {key: json.loads(value) if self.keys[key].grid is not None else value for key, value in values.items()}
        )


def _bounds(config: SpaceConfig) -> tuple[float, float]:
    """The ends of a range."""
    bounds = config.uniform or config.log_uniform
    assert bounds is not None, "a key has a grid or a range"
    return bounds


def _contains(config: SpaceConfig, value: Any) -> bool:
    if config.grid is not None:
        return json.dumps(value) in map(json.dumps, config.grid)
    low, high = _bounds(config)
    return isinstance(value, int | float) and low <= value <= high


def _value_at(config: SpaceConfig, quantile: float) -> Any:
    """The value at a quantile, from 0 to 1, of the key's values."""
    if config.grid is not None:
        return config.grid[int(quantile * len(config.grid))]
    low, high = _bounds(config)
    if config.log_uniform is not None:
        return math.exp(math.log(low) + quantile * (math.log(high) - math.log(low)))
    return low + quantile * (high - low)


def listed_points(tune: TuneConfig, seed: int) -> list[Point]:
    """All points of a grid, or `tune.points` random ones; empty if Optuna chooses them.

    Raises:
        UserError: the space is not valid, a range is in a grid, or a grid holds a point twice.
    """
    if tune.search == "optuna":
        return []
    space = Space.of(tune)
    points = list(space.grid() if tune.search == "grid" else space.random(seed, tune.points))
    unique = {point.name: point for point in points}
    if tune.search == "grid" and len(unique) < len(points):
        raise UserError("tune: the same point is given twice")
    return list(unique.values())


def check_space(experiment: Experiment, space: Space, points: Iterable[Point]) -> Point:
    """Refuse a key or a value that the configuration does not take.

    Args:
        experiment: the configuration.
        space: each value at its edges is checked alone.
        points: each is checked as a whole.

    Returns:
        A point at the edge of the space.

    Raises:
        UserError: with the key and the reason.
    """
    edges = space.edges
    for key, values in edges.items():
        for value in values:
            with_overrides(experiment, {key: value})
    for point in points:
        with_overrides(experiment, point.values)
    return Point({key: values[0] for key, values in edges.items()})
