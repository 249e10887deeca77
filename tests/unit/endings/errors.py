"""Errors as libraries raise them."""

import traceback
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error


def raised(function: Callable[[], object]) -> Exception:
    """The error that a call raises, with its traceback."""
    try:
        function()
    except Exception as error:  # noqa: BLE001 - any
        return error
    raise AssertionError("no error was raised")


def refused_by_s3(code: str, operation: str = "ListObjectsV2", **details: str) -> Exception:
    """An answer of S3 as s3fs raises it."""

    def fail() -> None:
        error = ClientError({"Error": {"Code": code, "Message": "refused", **details}}, operation)
        raise translate_boto_error(error)

    return raised(fail)


def in_task(error: Exception, wrapper: type[Exception] | None = None) -> Exception:
    """The error as the driver gets it from a Ray task."""
    found: Exception = task_error(error, wrapper).as_instanceof_cause()
    return found


def task_error(error: Exception, wrapper: type[Exception] | None = None) -> Any:
    """Ray's error of a task: the causes of the task's own error are lost, and a traceback's text is left.

    Args:
        error: the error of the task.
        wrapper: what Ray Data raises from it.
    """
    from ray import cloudpickle
    from ray.exceptions import RayTaskError

    def fail() -> None:
        raise error

    def wrap() -> None:
        assert wrapper is not None
        raise wrapper("UDF failed to process a data block.") from error

    if error.__traceback__ is None:
        raised(fail)
    if wrapper is not None:
        error = raised(wrap)
    text = "".join(traceback.format_exception(error))
    pickled = cloudpickle.loads(cloudpickle.dumps(error))
    return RayTaskError("ReadShard", text, pickled, "ray::ReadShard", 7, "127.0.0.1")
