"""An error ends as one message with an exit code; its traceback goes to a log file."""

import errno
import tempfile
from pathlib import Path

import pytest
from ray.exceptions import UserCodeException

from laclip_ray.data.image_sources import StoreError
from laclip_ray.endings.report import describe_with_log, report_of
from laclip_ray.errors import IncompleteError, SurroundingsError, UserError
from laclip_ray.redaction import register_secrets
from tests.cases import case
from tests.unit.endings.errors import in_task, raised, refused_by_s3


@pytest.fixture(autouse=True)
def _temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def from_cause(error: Exception, cause: Exception) -> Exception:
    """The error, raised from a cause."""

    def fail() -> None:
        raise error from cause

    return raised(fail)


FULL = OSError(errno.ENOSPC, "No space left on device", "/out/a")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("data.path: missing"), 2, "data.path: missing"),
        (IncompleteError("two shards are missing"), 3, "two shards are missing"),
        (SurroundingsError("RAY_ADDRESS: no Ray answers"), 4, "RAY_ADDRESS: no Ray answers"),
        (from_cause(SurroundingsError("Ray does not start"), OSError("x")), 4, "Ray does not start"),
        (FULL, 4, "/out/a: the disk is full. Free some space, or choose another directory"),
        (from_cause(IncompleteError("training ended early"), FULL), 4, "training ended early"),
        (from_cause(IncompleteError("training ended early"), ValueError("bad")), 3, "training ended early"),
        (from_cause(UserError("rewrite.model: cannot be loaded"), ValueError("bad")), 2, "rewrite.model: cannot be"),
        (RuntimeError("a bug"), 1, "unexpected error: RuntimeError: a bug"),
    ],
)
def test_each_kind_of_error_has_its_code_and_message(error: Exception, code: int, message: str) -> None:
    report = report_of(error, {})
    assert report.exit_code == code
    assert report.message.startswith(message)


@case("How a run ends", "bad input that only a task discovers", "the task's message, without Ray's pages", exit_code=2)
def test_bad_input_that_a_task_discovers_is_told_as_before_a_run() -> None:
    error = UserError("evaluate.labelled: no images")
    for found in (in_task(error), in_task(error, UserCodeException)):  # the second is known only from a text
        report = report_of(found, {})
        assert (report.exit_code, report.message, report.has_traceback) == (2, str(error), False)


def test_an_input_that_the_surroundings_keep_from_being_checked_is_not_bad() -> None:
    error = from_cause(UserError("data.path: cannot be listed"), refused_by_s3("AccessDenied"))
    report = report_of(error, {"data.path": "s3://a/b"})
    assert report.exit_code == 4
    assert report.message.startswith("data.path: s3://a/b: S3 denies access.")


def test_a_shard_that_its_store_refuses_in_training_is_work_that_is_left() -> None:
    refused = in_task(
        from_cause(StoreError("s3://a/b/0.tar: refused"), refused_by_s3("AccessDenied")), UserCodeException
    )
    assert report_of(from_cause(IncompleteError("training ended early"), refused), {}).exit_code == 3
    assert report_of(refused, {}).exit_code == 4, "while planning, no work is begun"


def test_work_that_is_left_because_a_store_refuses_a_shard_keeps_its_code() -> None:
    refused = from_cause(IncompleteError("shard 3: S3 denies access"), refused_by_s3("AccessDenied"))
    assert report_of(from_cause(IncompleteError("training ended early"), refused), {}).exit_code == 3


@case(
    "How a run ends",
    "an unforeseen error",
    "type and text in one line; the log has the traceback",
    exit_code=1,
)
def test_the_log_has_the_traceback_and_the_command() -> None:
    error = raised(lambda: [][0])
    message = describe_with_log(report_of(error, {}), error, ["train", "a b.yaml"])
    assert message.startswith("unexpected error: IndexError: list index out of range (traceback: ")
    log = Path(message.rpartition("traceback: ")[2].removesuffix(")")).read_text()
    assert "laclip train 'a b.yaml'\n" in log
    assert "Traceback (most recent call last)" in log
    assert log.endswith("IndexError: list index out of range\n")


def test_an_error_for_users_needs_no_log(tmp_path: Path) -> None:
    for error in (UserError("bad"), from_cause(UserError("bad"), ValueError("as YAML")), IncompleteError("bad")):
        assert describe_with_log(report_of(error, {}), error, []) == "bad"
    assert not list(tmp_path.iterdir())


@case("How a run ends", "an error whose log cannot be written either", "the message without a log", exit_code=4)
def test_a_log_that_cannot_be_written_hides_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/no/such/directory")
    message = describe_with_log(report_of(FULL, {}), FULL, [])
    assert message.startswith("/out/a: the disk is full.")
    assert message.endswith("(the traceback could not be written to the temporary directory)")


def test_message_and_log_hold_no_secret_and_no_control_character() -> None:
    register_secrets({"token": "opensesame-123"})
    error = raised(lambda: int("opensesame-123 \x1b[31m"))
    message = describe_with_log(report_of(error, {}), error, ["--token", "opensesame-123"])
    log = Path(message.rpartition("traceback: ")[2].removesuffix(")")).read_text()
    for text in (message, log):
        assert "opensesame" not in text
        assert "\x1b" not in text
