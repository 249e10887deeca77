"""`laclip submit` as a user runs it: what it prints, and its exit code."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.cli import main
from laclip_ray.endings.job_log import exit_line
from laclip_ray.submitting import server
from laclip_ray.submitting.job import Job
from tests.cases import case

ADDRESS = "http://head:8265"


class Cluster:
    """A job server with one job, which ends as soon as its log is read."""

    jobs: Mapping[str, str] = {}
    ended = Job("FAILED", 3)
    log_text = f"half \x1b[31mred\nerror: some is left\n{exit_line(3)}\n"

    def __init__(self, address: str) -> None:
        self.address = address

    def statuses(self) -> dict[str, str]:
        return dict(self.jobs)

    def submit(self, *_: Any) -> None:
        pass

    def job(self, _: str) -> Job:
        return self.ended

    def log(self, _: str) -> str:
        return self.log_text

    async def tail(self, _: str) -> AsyncIterator[str]:
        yield self.log_text


@pytest.fixture(autouse=True)
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Cluster]:
    """A project, and a cluster to submit it to."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("name: mine\noutput: ${OUT}\ndata: {path: 's3://bucket/data'}\n")
    monkeypatch.setenv("OUT", "s3://bucket/out")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    kind = type("Cluster", (Cluster,), {})
    monkeypatch.setattr(server, "JobServer", kind)
    return kind


def exit_code(*words: str) -> int:
    """The exit code of `laclip submit`."""
    try:
        main(["submit", *words])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_without_follow_the_commands_that_deal_with_the_job_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("train", "mine.yaml", "text.p=[0, 1]", "text.p=0", "--address", ADDRESS, "--env", "HF_TOKEN") == 0
    lines = capsys.readouterr().out.splitlines()
    job = lines[0].partition(":")[0]
    assert lines == [
        f"{job}: submitted to {ADDRESS}",
        "  travels: mine.yaml",
        "  variables: OUT=s3://bucket/out",
        "  every node must have: HF_TOKEN (holds a secret, so its value does not travel)",
        "next:",
        f"  laclip submit train mine.yaml 'text.p=[0, 1]' text.p=0 --address {ADDRESS} --env HF_TOKEN --follow  # the "
        "job's log, to its end",
        f"  ray job status --address {ADDRESS} {job}  # its state",
        f"  ray job stop --address {ADDRESS} {job}  # stop it",
    ]


def test_following_prints_the_log_safely_and_ends_with_the_runs_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("train", "mine.yaml", "--address", ADDRESS, "--follow") == 3
    *_, red, error, line, last = capsys.readouterr().out.splitlines()
    assert (red, error, line) == (r"half \x1b[31mred", "error: some is left", "laclip: exit code 3 (incomplete)")
    assert last.endswith(": FAILED, exit code 3 (incomplete)")


def test_an_attempt_names_the_one_before(cluster: type[Cluster], capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("train", "mine.yaml", "--address", ADDRESS) == 0
    job = capsys.readouterr().out.partition(":")[0]
    cluster.jobs = {job: "RUNNING"}
    assert exit_code("train", "mine.yaml", "--address", ADDRESS) == 0
    assert capsys.readouterr().out.startswith(f"{job}: runs already at {ADDRESS}; attached to it\nnext:\n")
    cluster.jobs = {job: "STOPPED"}
    assert exit_code("train", "mine.yaml", "--address", ADDRESS) == 0
    assert f"{job}-2: submitted to {ADDRESS}\n  {job} ended before (STOPPED); this" in capsys.readouterr().out


@case("How a run ends", "Ctrl-C while a submitted job is followed", "the job runs on; commands are printed", 130)
def test_ctrl_c_leaves_the_job_alone(
    cluster: type[Cluster], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Job:
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster, "job", interrupted)
    assert exit_code("train", "mine.yaml", "--address", ADDRESS, "--follow") == 130
    printed = capsys.readouterr()
    assert "not followed any more; the job was not stopped" in printed.err
    assert "  ray job stop" in printed.out
    assert "stopped by Ctrl-C: a submitted job is not stopped, and the same command attaches" in printed.err


def test_a_dry_run_says_what_would_travel_and_asks_no_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "JobServer", None)
    assert exit_code("train", "mine.yaml", "--dry-run") == 0
    assert (
        "would be submitted as: python -m laclip_ray train mine.yaml\n  travels: mine.yaml" in capsys.readouterr().out
    )


@case("How a run ends", "a submission of a wrong config", "refused here; nothing is sent", exit_code=2)
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "mine.yaml"], "--address is missing"),
        (["train", "none.yaml", "--address", ADDRESS], "there is no such config file"),
        (["train", "mine.yaml", "train.epoch=3", "--address", ADDRESS], "train.epoch"),
        (["train", "mine.yaml", "--address", ADDRESS, "--exclude", "x"], "--exclude leaves files of --working-dir out"),
        (["train", "mine.yaml", "--address", ADDRESS, "--working-dir", "none"], "none is not a directory"),
        (["demo", "mine.yaml", "--address", ADDRESS], "demo: not a verb that can be submitted"),
    ],
)
def test_bad_input_is_refused_before_a_server_is_asked(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server, "JobServer", None)
    assert exit_code(*words) == 2
    assert message in capsys.readouterr().err
