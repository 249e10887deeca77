"""`laclip submit` against a head with token authentication: exit codes, last lines, attaching, stopping."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.request import Request, urlopen

import pytest

from laclip_ray.endings.job_log import exit_line
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
from tests.integration.procedures import head_node

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A project without scripts of its own, and a head that asks for a token."""
    directory = tmp_path_factory.mktemp("jobs")
    write_project(directory)
    with head_node(directory / "head.log", environment=client_environment()) as address:
        yield Place(directory, address)


def test_a_job_ends_with_the_runs_exit_code_and_a_line_that_names_it(place: Place) -> None:
    words = {**arguments(place.directory), "success": ["estimate", "mine.yaml"]}  # an evaluation takes longer
    codes = {"success": 0, "bad input": 2, "incomplete": 3}
    clients = {name: Submitted(place, words[name], ["--follow"]) for name in codes}
    for name, client in clients.items():
        assert client.end() == codes[name], client.output()[-3000:]
        line, last = last_lines(client.output(), 2)
        assert line == exit_line(codes[name])
        assert last.startswith(f"{client.job}: {'SUCCEEDED' if name == 'success' else 'FAILED'}, exit code")
    assert "no result for 1 of 1 datasets" in clients["incomplete"].output()

    # Ray's commands, and the server itself, tell the same.
    job = clients["incomplete"].job
    with ThreadPoolExecutor() as pool:
        status, log = pool.map(lambda word: ray_job(place, word, job).stdout, ("status", "logs"))
    assert "failed with exit code 3" in status
    assert exit_line(3) in last_lines(log, 6)
    token = place.environment()["RAY_AUTH_TOKEN"]
    asked = Request(f"{place.address}/api/jobs/{job}", headers={"Authorization": f"Bearer {token}"})  # noqa: S310
    with urlopen(asked) as answer:  # noqa: S310 - of a server on this machine
        assert json.load(answer)["driver_exit_code"] == 3


def test_a_second_submission_attaches_and_both_follow_the_job_to_its_stop(place: Place) -> None:
    words = arguments(place.directory)["stop"]
    first = Submitted(place, words, ["--follow"])
    first.wait_for(WAITS)
    second = Submitted(place, words, ["--follow"])
    second.wait_for(WAITS)
    ray_job(place, "stop", first.job)
    for client in (first, second):
        assert client.end() == 143, client.output()[-3000:]
        assert last_lines(client.output(), 1) == [f"{first.job}: STOPPED, exit code 143 (stopped)"]
        assert "stopped by SIGTERM: committed shards are kept" in client.output()
    assert f"{first.job}: runs already at {place.address}; attached to it" in second.output().splitlines()


def test_a_wrong_and_a_missing_token_end_with_4(place: Place) -> None:
    words = arguments(place.directory)["success"]
    wrong = Submitted(place, words, variables={"RAY_AUTH_TOKEN": "f" * 32})
    missing = Submitted(place, words, variables={"RAY_AUTH_MODE": "disabled"})
    assert (wrong.end(), missing.end()) == (4, 4)
    assert "refuses the token. Set RAY_AUTH_MODE=token" in wrong.output()
    assert "asks for a token. Set RAY_AUTH_MODE=token" in missing.output()
