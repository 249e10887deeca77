"""Figures of submitted jobs: both ways to submit x five endings, each with exit code and last line."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from laclip_ray.endings.job_log import exit_line
from tests.figures.figure import Figure, exit_code
from tests.integration.job_endings import (
    WAITS,
    Place,
    Submitted,
    arguments,
    client_environment,
    last_lines,
    ray_job,
    write_project,
)
from tests.integration.procedures import REPOSITORY, head_node, wait_for

_RUNS = {"success": 0, "bad input": 2, "incomplete": 3, "stop": 143}
"""The run's exit code."""
_RAYS = {"success": 0, "bad input": 1, "incomplete": 1, "stop": 0, "attach": 1}
"""The exit code of `ray job submit`. It refuses an id that is taken, so it cannot attach."""


def endings(show: int) -> Iterator[Figure]:
    """Jobs that end in each way, submitted by `laclip submit` and by `ray job submit`, with token authentication."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        write_project(directory)
        with head_node(directory / "head.log", environment=client_environment()) as address:
            place = Place(directory, address)
            yield from _by_laclip(show, place)
            yield from _by_ray(show, place)
            refused = Submitted(place, arguments(directory)["success"], variables={"RAY_AUTH_TOKEN": "f" * 32})
            yield exit_code(show, "laclip submit, wrong token: exit code", refused.end(), 4)
            _print("laclip submit", "wrong token", 4, refused.output())


def _by_laclip(show: int, place: Place) -> Iterator[Figure]:
    for ending, words in arguments(place.directory).items():
        client = Submitted(place, words, ["--follow"])
        clients = {ending: client}
        if ending == "stop":
            client.wait_for(WAITS)
            clients["attach"] = Submitted(place, words, ["--follow"])
            clients["attach"].wait_for(WAITS)
            ray_job(place, "stop", client.job)
        for name, each in clients.items():
            code, run = each.end(), _RUNS[ending]
            _print("laclip submit", name, code, each.output())
            yield exit_code(show, f"laclip submit, {name}: exit code", code, run)
            yield _says(show, f"laclip submit, {name}", each.output(), run)
            yield Figure(show, f"laclip submit, {name}: jobs", float(each.job == client.job), "", 1, 1)


@dataclass
class _RayClient:
    """`ray job submit` in a directory of its own, followed to the job's end."""

    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text()


def _by_ray(show: int, place: Place) -> Iterator[Figure]:
    for number, (ending, words) in enumerate(arguments(place.directory).items()):
        submission_id = f"ray-{number}"
        client = _submit(place, submission_id, words)
        clients = {ending: client}
        if ending == "stop":
            wait_for(lambda client=client: WAITS in client.output(), 120, "a waiting run")  # type: ignore[misc]
            clients["attach"] = _submit(place, submission_id, words)
            clients["attach"].process.wait(120)
            ray_job(place, "stop", submission_id)
        for name, each in clients.items():
            code = each.process.wait(300)
            log = ray_job(place, "logs", submission_id).stdout
            _print("ray job submit", name, code, each.output() if name == "attach" else log)
            yield exit_code(show, f"ray job submit, {name}: exit code", code, _RAYS[name])
            if name != "attach":
                yield _says(show, f"ray job submit, {name}", log, _RUNS[ending])


def _submit(place: Place, submission_id: str, words: Sequence[str]) -> _RayClient:
    """Submit the project with the job script of its verb, as its users do: the repository is the working directory."""
    verb, config, *overrides = words
    log = place.directory / f"{submission_id}-{len([*place.directory.glob('ray-*')])}.log"
    output = f"output={place.directory}/ray-out"
    sets = "rewrite.prompt_sets=[cleaned]"
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", place.address),
        *(f"--submission-id={submission_id}", "--working-dir", str(REPOSITORY)),
        *("--runtime-env-json", '{"env_vars": {"LACLIP_JOBS_OUTPUT": "unused"}}', "--"),
        *(sys.executable, f"jobs/{verb}.py", str(place.project / config), *overrides, output, sets),
    ]
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=place.environment(), stdout=file, stderr=file)
    return _RayClient(process, log)


def _says(show: int, name: str, log: str, code: int) -> Figure:
    """Whether one of the last lines is the run's exit line; Ray's client prints behind it."""
    lines = last_lines(log, 6)
    return Figure(show, f"{name}: exit lines among the last lines", lines.count(exit_line(code)), "", 1, 1)


def _print(way: str, ending: str, code: int, log: str) -> None:
    """Print a row of the table."""
    (line,) = last_lines(log, 1)
    print(f"{way} | {ending} | {code} | {line}", file=sys.stderr, flush=True)
