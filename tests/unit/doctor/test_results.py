"""A check that breaks or hangs has failed, and the others go on."""

import errno
import threading

import pytest

from laclip_ray.doctor.results import Check, Finding, failed_by, passed, run_check, run_checks, skipped
from laclip_ray.errors import UserError

REMEDY = "do this"


def check(run: object, timeout_s: float | None = 5.0) -> Check:
    return Check("name", run, REMEDY, timeout_s)  # type: ignore[arg-type]


def raising(error: BaseException) -> object:
    def fail() -> Finding:
        raise error

    return fail


def test_a_finding_gets_the_name_of_its_check() -> None:
    result = run_check(check(lambda: passed("all is well")))
    assert (result.name, result.outcome, result.detail, result.remedy) == ("name", "passed", "all is well", "")


@pytest.mark.parametrize("timeout_s", [None, 5.0])
def test_a_check_that_breaks_has_failed_with_its_remedy(timeout_s: float | None) -> None:
    result = run_check(check(raising(RuntimeError("a bug")), timeout_s))
    assert (result.outcome, result.detail, result.remedy) == ("failed", "RuntimeError: a bug", REMEDY)


def test_a_check_that_hangs_has_failed() -> None:
    forever = threading.Event()
    result = run_check(check(forever.wait, 0.05))
    assert (result.outcome, result.detail, result.remedy) == ("failed", "no answer within 0 s", REMEDY)
    forever.set()


def test_the_others_go_on_and_are_announced() -> None:
    begun: list[str] = []
    checks = [check(raising(RuntimeError())), check(lambda: skipped("none")), check(lambda: passed("fine"))]
    assert [result.outcome for result in run_checks(checks, begun.append)] == ["failed", "skipped", "passed"]
    assert begun == ["name"] * 3


def test_ctrl_c_ends_all_checks() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_check(check(raising(KeyboardInterrupt()), None))


def test_an_error_of_this_package_is_shown_with_its_own_text() -> None:
    found = failed_by(UserError("data.path: 'x' does not exist"), REMEDY)
    assert (found.detail, found.remedy) == ("data.path: 'x' does not exist", REMEDY)


def test_a_known_error_of_the_surroundings_has_its_own_remedy() -> None:
    found = failed_by(OSError(errno.ENOSPC, "No space left on device", "/full/file"), REMEDY)
    assert found.detail == "/full/file: the disk is full"
    assert found.remedy == "Free some space, or choose another directory"
