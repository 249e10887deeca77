"""The exit code of a job's run: Ray's, else the log's, else what the status means."""

import pytest

from laclip_ray.endings.job_log import exit_line
from laclip_ray.submitting.job import Job, ending_of
from tests.cases import case


@pytest.mark.parametrize(
    ("job", "log", "code", "meaning"),
    [
        (Job("SUCCEEDED", 0), exit_line(0), 0, "complete"),
        (Job("FAILED", 3), "", 3, "incomplete"),
        (Job("FAILED", 2), exit_line(3), 2, "bad input"),
        (Job("STOPPED"), exit_line(143), 143, "stopped"),
        (Job("STOPPED"), exit_line(0), 0, "complete"),
        (Job("STOPPED"), "killed before it could write a line", 143, "stopped"),
        (Job("FAILED"), f"{exit_line(3)}\n", 3, "incomplete"),
        (Job("FAILED", 7), "", 7, "7"),
    ],
)
def test_a_run_keeps_its_exit_code(job: Job, log: str, code: int, meaning: str) -> None:
    ended = ending_of("mine", job, log)
    assert ended.code == code
    assert ended.sentence.startswith(f"mine: {job.status}, exit code {code}")
    assert meaning in ended.sentence


@case("How a run ends", "a submitted job whose process is killed, as without memory", "the signal is named", 137)
def test_a_killed_run_has_the_code_that_a_shell_gives() -> None:
    ended = ending_of("mine", Job("FAILED", -9), "")
    assert (ended.code, "killed by signal 9" in ended.sentence) == (137, True)


@case("How a run ends", "a submitted job that Ray cannot start, or loses", "Ray's reason is printed", exit_code=4)
def test_a_job_that_never_ran_ends_with_rays_reason() -> None:
    message = "\nFailed to set up the runtime environment.\nTraceback: ..."
    ended = ending_of("mine", Job("FAILED", None, message), "")
    assert ended.code == 4
    assert "FAILED, and the run has no exit code: Failed to set up the runtime environment. Submit" in ended.sentence
    assert "Ray gives no reason" in ending_of("mine", Job("FAILED"), "").sentence
