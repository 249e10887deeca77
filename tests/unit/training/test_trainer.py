"""A run that stopped at a non-finite loss or weight says which step and samples to look at."""

from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.errors import IncompleteError
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.trainer import _check_finite


def stopped(directory: Path, ids: list[str]) -> str:
    """The message of a run that stopped at step 2."""
    paths = RunPaths(str(directory))
    storage.write_json(paths.non_finite, {"step": 2, "ids": ids})
    with pytest.raises(IncompleteError) as error:
        _check_finite(paths)
    return str(error.value)


def test_the_first_ids_of_a_large_batch_are_named_and_the_file_has_the_rest(tmp_path: Path) -> None:
    message = stopped(tmp_path, [f"s{number:05d}" for number in range(16)])
    named = ", ".join(f"s{number:05d}" for number in range(10))
    start = (
        f"the loss of step 2 is not finite; its batch is {named} and 6 more, in {RunPaths(str(tmp_path)).non_finite}."
    )
    assert message.startswith(start)


def test_all_ids_of_a_small_batch_are_named(tmp_path: Path) -> None:
    assert stopped(tmp_path, ["a", "b"]).startswith("the loss of step 2 is not finite; its batch is a, b. Look at")


def test_a_non_finite_weight_has_no_batch(tmp_path: Path) -> None:
    assert stopped(tmp_path, []).startswith("a weight is not finite after step 2, and no checkpoint was made of it.")


def test_a_finite_run_passes(tmp_path: Path) -> None:
    _check_finite(RunPaths(str(tmp_path)))
