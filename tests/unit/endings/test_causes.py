"""The innermost cause is found behind everything that Ray wraps errors in."""

import os
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ActorDiedError, UserCodeException
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.tune.error import TuneError

from laclip_ray.endings.causes import chain, describe, innermost, is_loss, parse_traceback, unwrapped
from laclip_ray.errors import IncompleteError, UserError
from tests.cases import case
from tests.unit.endings.errors import in_task, raised, task_error

HINT = (
    "Failed to process block after 1/1 attempts (total backoff 0.0s).\n"
    "To change retry attempts, backoff, or which errors are retried, configure `ray.data.DataContext.get_current()` "
    "(`retried_io_errors` for I/O; `retried_map_errors` and `max_map_retries` for any task) if you believe this to be "
    "transient."
)


def bad_row() -> Exception:
    """An error of a task, with a cause of its own."""

    def fail() -> None:
        try:
            int("three")
        except ValueError as error:
            raise RuntimeError("row 7 is bad") from error

    return raised(fail)


@case(
    "How a run ends",
    "an error inside a task of Ray Data, whose text ends with a hint on retries",
    "the message names type and text of the innermost cause",
    exit_code=3,
)
def test_the_cause_inside_a_task_of_ray_data_is_named() -> None:
    error = in_task(bad_row(), UserCodeException)
    assert describe(error) == "ValueError: invalid literal for int() with base 10: 'three'"


@case("How a run ends", "Ray's own hint on retries behind an error's text", "the hint is left out")
def test_ray_datas_hint_is_not_part_of_an_error() -> None:
    assert describe(in_task(ValueError(f"bad row\n{HINT}"))) == "ValueError: bad row"
    assert describe(in_task(ValueError("bad row"), UserCodeException)) == "ValueError: bad row"


@pytest.mark.parametrize("text", [f"bad row\n{HINT}", "bad row"])
def test_a_task_error_inside_a_task_error_is_opened(text: str) -> None:
    assert describe(in_task(in_task(ValueError(text)))) == "ValueError: bad row"


def test_an_error_of_an_actors_constructor_is_found_in_the_actors_death() -> None:
    error = task_error(bad_row())
    assert describe(ActorDiedError(error)) == "ValueError: invalid literal for int() with base 10: 'three'"
    assert not is_loss(ActorDiedError(error))
    assert is_loss(ActorDiedError())


def wrapped(error: Exception) -> UserExceptionWithTraceback:
    """The error of a worker, as Ray Train returns it."""
    return UserExceptionWithTraceback(error, "".join(traceback.format_exception(error)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda error: WorkerGroupError("[Rank 0]:\nTraceback...", {0: wrapped(error)}),
        lambda error: ControllerError(error),
        lambda error: TuneError(f'Traceback (most recent call last):\n  File "x", line 1\nKeyError: {error}\n'),
        lambda error: ExceptionGroup("several", [error]),
    ],
    ids=["worker", "controller", "tune", "group"],
)
def test_errors_of_train_and_tune_are_opened(wrap: Callable[[Exception], Exception]) -> None:
    assert describe(wrap(KeyError("loss"))) == "KeyError: 'loss'"


def test_a_lost_worker_counts_and_not_the_others_that_it_took_along() -> None:
    broken = RuntimeError("Connection closed by peer")
    for failures in ({0: broken, 1: ActorDiedError()}, {0: ActorDiedError(), 1: broken}):
        error = WorkerGroupError("two ranks failed", failures)
        assert innermost(error).name == "ActorDiedError"
        assert is_loss(error)


def test_an_error_of_this_package_is_told_by_its_text_alone() -> None:
    def fail() -> None:
        raise UserError("train.epochs: too few") from ValueError("cause")

    assert describe(raised(fail)) == "train.epochs: too few"
    assert describe(in_task(raised(fail), UserCodeException)) == "train.epochs: too few"
    assert describe(in_task(IncompleteError("two\nlines"))) == "two\nlines"
    assert isinstance(unwrapped(in_task(UserError("bad"))), UserError)


def test_a_context_is_no_cause() -> None:
    def fail() -> None:
        try:
            os.environ["NO SUCH VARIABLE"]
        except KeyError:
            raise ValueError("second")  # noqa: B904 - without a cause

    error = raised(fail)
    assert describe(error) == "ValueError: second"
    assert describe(in_task(error, UserCodeException)) == "ValueError: second"


def test_long_texts_are_cut_and_an_error_without_text_is_its_type() -> None:
    assert describe(ValueError("x" * 10_000)) == f"ValueError: {'x' * 500}…"
    assert describe(ValueError()) == "ValueError"


def test_an_error_that_cannot_be_printed_or_is_its_own_cause_is_described() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert describe(UnprintableError()) == "UnprintableError: (its text cannot be read: ValueError)"
    error = ValueError("round")
    error.__cause__ = error
    assert [str(cause) for cause in chain(error)] == ["ValueError: round"]


@given(st.text(max_size=300))
def test_any_text_is_parsed(text: str) -> None:
    assert all(cause.kind for cause in parse_traceback(text))
    assert describe(RuntimeError(text)).startswith(("RuntimeError", *(cause.name for cause in parse_traceback(text))))
