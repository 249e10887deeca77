"""Checks and their results. A check that breaks or hangs has failed, and the others still run."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from laclip_ray.endings.causes import innermost
from laclip_ray.endings.surroundings import find_problem

Outcome = Literal["passed", "failed", "skipped"]

TIMEOUT_S = 60.0
"""How long a check may take."""


@dataclass(frozen=True)
class Finding:
    """The finding of a check."""

    outcome: Outcome
    detail: str
    remedy: str = ""
    """What to do. Empty unless the check failed."""


def passed(detail: str) -> Finding:
    """The check has passed."""
    return Finding("passed", detail)


def failed(detail: str, remedy: str) -> Finding:
    """The check has failed."""
    return Finding("failed", detail, remedy)


def skipped(detail: str) -> Finding:
    """The check does not apply; the detail says why."""
    return Finding("skipped", detail)


def failed_by(error: BaseException, remedy: str) -> Finding:
    """An error as a failed check.

    Args:
        error: any error. A known error of the surroundings brings its own remedy.
        remedy: what to do about any other error.
    """
    cause = innermost(error)
    if not cause.is_ours and (problem := find_problem(error)) is not None:
        return failed(": ".join(filter(None, [problem.location, problem.what])), problem.remedy)
    return failed(str(cause), remedy)


@dataclass(frozen=True)
class Check:
    """One thing to check."""

    name: str
    run: Callable[[], Finding]
    remedy: str
    """What to do if the check itself breaks."""
    timeout_s: float | None = TIMEOUT_S
    """How long it may take. None: it ends by itself, and runs in the main thread, as Ray wants it."""


@dataclass(frozen=True)
class Result:
    """A check that has run."""

    name: str
    outcome: Outcome
    detail: str
    remedy: str


def run_check(check: Check) -> Result:
    """Run a check. Raises only KeyboardInterrupt."""
    found = _guarded(check) if check.timeout_s is None else _in_time(check, check.timeout_s)
    return Result(check.name, found.outcome, found.detail, found.remedy)


def run_checks(checks: Sequence[Check], begun: Callable[[str], None] = lambda _: None) -> list[Result]:
    """Run checks one after another.

    Args:
        checks: in order.
        begun: called with the name of each check that begins.
    """
    results = []
    for check in checks:
        begun(check.name)
        results.append(run_check(check))
    return results


def _guarded(check: Check) -> Finding:
    try:
        return check.run()
    except Exception as error:  # noqa: BLE001 - whatever a library raises, the other checks go on
        return failed_by(error, check.remedy)


def _in_time(check: Check, timeout_s: float) -> Finding:
    """Run a check in a thread. One that hangs is left behind; the thread ends with the process."""
    found: list[Finding] = []
    thread = threading.Thread(target=lambda: found.append(_guarded(check)), daemon=True, name=f"check {check.name}")
    thread.start()
    thread.join(timeout_s)
    return found[0] if found else failed(f"no answer within {timeout_s:.0f} s", check.remedy)
