"""What a sweep looks through: points, which are values for dotted config keys.

Guarantees: a point's name is a function of its values alone, so that a rerun finds what it trained; a drawn point is a
function of (seed, number).
Not covered: keys that exclude one another; a point that the config refuses is an error before anything starts.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from laclip_ray.config import CanBeSwept, Experiment, FixedInSweep, SpaceConfig, marked_keys, with_overrides
from laclip_ray.errors import UserError
from laclip_ray.randomness import uniform

P_KEY = "text.p"
_NAME_LENGTH = 80


@dataclass(frozen=True)
class Point:
    """One place of the space."""

    values: Mapping[str, Any]
    """By dotted config key."""

    @property
    def name(self) -> str:
        """For its directory, and for people."""
        # p first, the rest in the order of their keys, whatever the order in which a search gives them.
        keys = sorted(self.values, key=lambda key: (key != P_KEY, key))
        told = "-".join(f"{key.rpartition('.')[2]}{_text(self.values[key])}" for key in keys)
        name = re.sub(r"[^A-Za-z0-9.+_-]+", "_", told)
        if all(map(_is_plain, self.values.values())) and len(name) <= _NAME_LENGTH:
            return name
        digest = hashlib.sha256(json.dumps(self.values, sort_keys=True).encode()).hexdigest()[:8]
        return f"{name[: _NAME_LENGTH - 9]}-{digest}"


def _is_plain(value: Any) -> bool:
    """Whether a value can be told from every other one by its text."""
    if isinstance(value, str):
        return re.fullmatch("[A-Za-z]+", value) is not None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{name}={each}" for name, each in value.items() if each is not None)
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)


def constant_p(p: Any, rewrites: int) -> float | None:
    """What a value of `text.p` is in every epoch; None for one that changes.

    Args:
        p: as configured.
        rewrites: that a caption has at most, M: the paper's uniform choice is M / (M + 1).
    """
    if p == "uniform":
        return _uniform_p(rewrites)
    return round(p, _DIGITS) if isinstance(p, int | float) else None


def baseline_ps(rewrites: int) -> tuple[float, float]:
    """The p that all others are held against: 0 (CLIP), and the paper's choice."""
    return 0.0, _uniform_p(rewrites)


def _uniform_p(rewrites: int) -> float:
    return round(rewrites / (rewrites + 1), _DIGITS)


_DIGITS = 9


def swept_keys(experiment: Experiment) -> dict[str, SpaceConfig]:
    """The values of each key that is swept; `tune.p` is short for a grid of `text.p`.

    Raises:
        UserError: nothing is swept, p is given twice, or a key is what all runs share.
    """
    tune = experiment.tune
    space = dict(tune.space)
    if tune.p is not None:
        if P_KEY in space:
            raise UserError(f"tune.space: {P_KEY} is in tune.p too; set tune.p=null")
        grid = tune.model_dump(mode="json")["p"]
        space = {P_KEY: SpaceConfig(grid=grid), **space}
    sections, fixed = marked_keys(Experiment, CanBeSwept), marked_keys(Experiment, FixedInSweep)
    for key in space:
        if key.partition(".")[0] not in sections or key in fixed:
            raise UserError(
                f"tune.space.{key}: is the same for all runs of a sweep; what can be swept is in text, stream, model "
                "and train. For other data or rewrites make other sets first, and sweep text.rewrites"
            )
    if not space:
        raise UserError("tune: nothing to sweep; give tune.p or tune.space")
    return space


def check_space(experiment: Experiment) -> Point:
    """Refuse a space with a key or a value that the configuration does not take.

    Returns:
        a point at one of its edges.

    Raises:
        UserError: with the key and what is wrong with it.
    """
    space = swept_keys(experiment)
    edges = {key: given.grid or [*(given.uniform or given.log_uniform or ())] for key, given in space.items()}
    for key, values in edges.items():
        for value in values:
            with_overrides(experiment, {key: value})
    return Point({key: values[0] for key, values in edges.items()})


def is_within(experiment: Experiment, values: Mapping[str, Any]) -> bool:
    """Whether a point that was measured before is one of the space as it is now."""
    space = swept_keys(experiment)
    if values.keys() != space.keys():
        return False
    for key, given in space.items():
        if given.grid is not None:
            if json.dumps(values[key]) not in map(json.dumps, given.grid):
                return False
        elif not isinstance(values[key], int | float):
            return False
        else:
            low, high = given.uniform or given.log_uniform or (0.0, 0.0)
            if not low <= values[key] <= high:
                return False
    return True


def listed_points(experiment: Experiment) -> list[Point]:
    """All points of a grid, or `tune.points` drawn ones; each is a config that is valid.

    Raises:
        UserError: a key that the config does not have, a value that it does not take, or a grid without an end.
    """
    space = swept_keys(experiment)
    points = list(_grid(space) if experiment.tune.search == "grid" else _drawn(experiment, space))
    unique = {point.name: point for point in points}
    if experiment.tune.search == "grid" and len(unique) < len(points):
        raise UserError("tune: the same point is given twice")
    for point in unique.values():
        with_overrides(experiment, point.values)
    return list(unique.values())


def _grid(space: Mapping[str, SpaceConfig]) -> Iterator[Point]:
    for key, given in space.items():
        if given.grid is None:
            raise UserError(
                f"tune.space.{key}: a range has no end of values; give a grid, or tune.search=random or optuna"
            )
    for values in itertools.product(*(given.grid or () for given in space.values())):
        yield Point(dict(zip(space, values, strict=True)))


def _drawn(experiment: Experiment, space: Mapping[str, SpaceConfig]) -> Iterator[Point]:
    for number in range(experiment.tune.points):
        yield Point({key: _at(given, uniform("point", experiment.seed, number, key)) for key, given in space.items()})


def _at(given: SpaceConfig, share: float) -> Any:
    """The value that has this share of the key's values before it."""
    if given.grid is not None:
        return given.grid[int(share * len(given.grid))]
    if given.uniform is not None:
        low, high = given.uniform
        return low + share * (high - low)
    assert given.log_uniform is not None
    low, high = given.log_uniform
    return math.exp(math.log(low) + share * (math.log(high) - math.log(low)))


def optuna_space(experiment: Experiment) -> dict[str, Any]:
    """The swept keys as Ray Tune gives them to Optuna. What is no number or text goes by its JSON."""
    from optuna import distributions

    found: dict[str, Any] = {}
    for key, given in swept_keys(experiment).items():
        if given.grid is not None:
            found[key] = distributions.CategoricalDistribution([json.dumps(value) for value in given.grid])
        elif given.uniform is not None:
            found[key] = distributions.FloatDistribution(*given.uniform)
        elif given.log_uniform is not None:
            found[key] = distributions.FloatDistribution(*given.log_uniform, log=True)
    return found


def suggested_point(experiment: Experiment, values: Mapping[str, Any]) -> Point:
    """The point that Optuna means (see `optuna_space`)."""
    space = swept_keys(experiment)
    return Point({key: json.loads(value) if space[key].grid is not None else value for key, value in values.items()})


def encoded(experiment: Experiment, values: Mapping[str, Any]) -> dict[str, Any]:
    """A point's values as Optuna knows them; the inverse of `suggested_point`."""
    space = swept_keys(experiment)
    return {key: json.dumps(value) if space[key].grid is not None else float(value) for key, value in values.items()}
