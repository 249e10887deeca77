"""A space lists its points, names each one uniquely, and gives the same points again."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.errors import UserError
from laclip_ray.tuning.space import Point, Space, check_space, listed_points


def experiment(**tune: Any) -> Experiment:
    return parse_experiment({"name": "sweep", "output": "out", "data": {"path": "data"}, "tune": tune})


def points_of(**tune: Any) -> list[Point]:
    """The points of a sweep, checked as `run_sweep` does."""
    swept = experiment(**tune)
    points = listed_points(swept.tune, swept.seed)
    check_space(swept, Space.of(swept.tune), points)
    return points


def test_a_grid_is_every_combination_and_p_comes_first_in_names() -> None:
    points = points_of(p=[0, 0.8], space={"train.learning_rate": {"grid": [1e-3, 2e-3]}})
    assert [point.name for point in points] == [
        *("p0-learning_rate0.001", "p0-learning_rate0.002"),
        *("p0.8-learning_rate0.001", "p0.8-learning_rate0.002"),
    ]
    assert points[1].values == {"text.p": 0.0, "train.learning_rate": 2e-3}


def test_ramps_uniform_and_weights_are_points_too() -> None:
    ramps = {"start": 0.1, "end": 0.9}
    points = points_of(p=[ramps, "uniform"], space={"text.weights": {"grid": [{"cleaned": 2}, {}]}})
    assert len({point.name for point in points}) == 4
    assert points[-1].values["text.p"] == "uniform"


BY_WORDS = {"by": "caption_words", "low": 2.0, "high": 9.0, "p_low": 0.9, "p_high": 0.1, "unscored": None}


def test_p_by_a_score_is_swept_as_a_whole_or_by_its_parts() -> None:
    points = points_of(p=[0.8, BY_WORDS, {**BY_WORDS, "p_low": 1.0}])
    assert [point.values["text.p"] for point in points] == [0.8, BY_WORDS, {**BY_WORDS, "p_low": 1.0}]
    assert len({point.name for point in points}) == 3
    base = {"name": "sweep", "output": "out", "data": {"path": "data"}, "text": {"p": BY_WORDS}}
    swept = parse_experiment({**base, "tune": {"p": None, "space": {"text.p.p_low": {"grid": [0.5, 0.7]}}}})
    points = listed_points(swept.tune, swept.seed)
    check_space(swept, Space.of(swept.tune), points)
    assert [point.name for point in points] == ["p_low0.5", "p_low0.7"]


scalars = st.one_of(
    st.integers(-5, 5), st.floats(-1, 1), st.text(max_size=6), st.dictionaries(st.text(), st.floats(0, 1))
)


@given(st.lists(scalars, min_size=2, max_size=2, unique_by=repr))
def test_different_values_have_different_names_that_fit_file_names(values: list[Any]) -> None:
    one, other = (Point({"text.p": value}).name for value in values)
    assert one != other or values[0] == values[1]
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+_-") for name in (one, other)
    )
    assert len(one) <= 80


def test_random_points_are_the_same_again_and_within_their_bounds() -> None:
    def random_points() -> list[Point]:
        space = {"train.learning_rate": {"log_uniform": [1e-4, 1e-2]}, "text.p": {"uniform": [0.2, 0.6]}}
        return points_of(p=None, search="random", points=50, space=space)

    points = random_points()
    assert points == random_points()
    assert len(points) == 50
    rates = [point.values["train.learning_rate"] for point in points]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert 10 < sum(rate < 1e-3 for rate in rates) < 40
    assert all(0.2 <= point.values["text.p"] <= 0.6 for point in points)


def test_points_come_back_from_optuna_unchanged() -> None:
    space = Space.of(
        experiment(
            search="optuna", p=[0.0, "uniform"], space={"train.learning_rate": {"log_uniform": [1e-4, 1e-2]}}
        ).tune
    )
    values = {"text.p": "uniform", "train.learning_rate": 2e-3}
    assert space.decode(space.encode(values)).values == values


def test_the_ends_of_a_range_are_values_that_the_configuration_takes() -> None:
    bad = experiment(search="optuna", space={"train.weight_decay": {"uniform": [-1, 1]}})
    with pytest.raises(UserError, match=r"train\.weight_decay: input should be greater than or equal to 0"):
        check_space(bad, Space.of(bad.tune), [])
    good = experiment(search="optuna", p=[0.5, 1], space={"train.weight_decay": {"uniform": [0, 1]}})
    edge = check_space(good, Space.of(good.tune), [])
    assert edge.values == {"text.p": 0.5, "train.weight_decay": 0.0}


@pytest.mark.parametrize(
    ("values", "is_one"),
    [
        ({"text.p": "uniform", "train.weight_decay": 0.5}, True),
        ({"text.p": 0.3, "train.weight_decay": 0.5}, False),
        ({"text.p": 0.0, "train.weight_decay": 1.5}, False),
        ({"text.p": 0.0}, False),
        ({"text.p": 0.0, "train.weight_decay": 0.5, "train.beta1": 0.5}, False),
    ],
)
def test_a_space_contains_points_with_its_keys_and_values_within_its_bounds(
    values: dict[str, Any], is_one: bool
) -> None:
    swept = experiment(search="optuna", p=[0.0, "uniform"], space={"train.weight_decay": {"uniform": [0, 1]}})
    assert Space.of(swept.tune).contains(values) == is_one


@pytest.mark.parametrize(
    ("tune", "message"),
    [
        ({"p": [0, 0.0]}, "the same point"),
        ({"p": None}, "nothing to sweep"),
        ({"space": {"text.p": {"grid": [0.1]}}}, "text.p is in tune.p too"),
        ({"space": {"train.lr": {"grid": [0.1]}}}, "train.lr: unknown key"),
        ({"space": {"train.batch_size": {"grid": [0]}}}, "train.batch_size: input should be greater than 0"),
        ({"space": {"train.epochs": {"grid": [1, 2]}}}, "train.epochs: is the same for all runs"),
        ({"space": {"rewrite.sampling.temperature": {"grid": [0.5, 1.0]}}}, "temperature: is the same for all runs"),
        ({"space": {"train.learning_rate": {"uniform": [0.1, 0.2]}}}, "a range has no end of values"),
    ],
)
def test_a_space_that_cannot_be_swept_is_refused(tune: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        points_of(**tune)


@pytest.mark.parametrize(
    "space", [{}, {"grid": [1], "uniform": [0, 1]}, {"uniform": [1, 0]}, {"log_uniform": [0, 1]}, {"grid": []}]
)
def test_a_key_has_one_kind_of_values(space: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"tune\.space\.train\.learning_rate"):
        experiment(space={"train.learning_rate": space})
