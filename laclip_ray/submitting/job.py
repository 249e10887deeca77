"""A job as Ray describes it, and the exit code of its run."""

from dataclasses import dataclass

from laclip_ray.endings.job_log import describe_code, read_exit_code
from laclip_ray.errors import ExitCode

_ENDED = frozenset({"SUCCEEDED", "FAILED", "STOPPED"})
_BY_SIGNAL = 128
"""A shell adds the number of the signal that killed a process to this."""


@dataclass(frozen=True)
class Job:
    """A job as the job server describes it."""

    status: str
    """`PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED` or `STOPPED`."""
    exit_code: int | None = None
    """Of the driver. Ray has none for a stopped job, and for a job that did not start or was lost."""
    message: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether the status is final."""
        return self.status in _ENDED


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    code: int
    sentence: str
    """For the last line of a follower."""


def ending_of(submission_id: str, job: Job, log: str) -> Ended:
    """The exit code of an ended job's run, and a sentence about it.

    Ray's exit code counts; then the log's exit line; then the status.

    Args:
        submission_id: of the job.
        job: which has ended.
        log: its last lines at least.
    """
    code = job.exit_code
    if code is None:
        code = read_exit_code(log)
    if code is None:
        code = {"SUCCEEDED": ExitCode.COMPLETE, "STOPPED": ExitCode.TERMINATED}.get(job.status)
    if code is None:
        reason = next((line.strip() for line in job.message.splitlines() if line.strip()), "Ray gives no reason")
        sentence = f"{submission_id}: {job.status}, and the run has no exit code: {reason.rstrip('.')}"
        return Ended(ExitCode.ENVIRONMENT, f"{sentence}. Submit it again once the cluster is well")
    if code < 0:
        sentence = f"{submission_id}: {job.status}, killed by signal {-code} (9: mostly for want of memory)"
        return Ended(_BY_SIGNAL - code, sentence)
    return Ended(int(code), f"{submission_id}: {job.status}, {describe_code(code)}")
