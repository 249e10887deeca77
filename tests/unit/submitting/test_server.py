"""What the answers of a job server mean, told by small servers on this machine."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from laclip_ray.errors import SurroundingsError, UserError
from laclip_ray.submitting import server as server_module
from laclip_ray.submitting.server import JobServer, UnreachableError, check_address
from laclip_ray.submitting.submission import JobExistsError
from tests.cases import case

VERSION = (200, json.dumps({"version": "4", "ray_version": "2.60.0", "ray_commit": "x"}))
Answers = dict[str, tuple[int, str]]


@contextmanager
def serving(answers: Answers) -> Iterator[str]:
    """A server that gives an answer for each path, 404 for others; its address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            code, body = answers.get(self.path, (404, "no such job"))
            self.send_response(code)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "auto", "http://", "http://a b:1", ""])
def test_an_address_that_is_no_url_is_refused(address: str) -> None:
    with pytest.raises(UserError, match=r"--address: .* is not the URL of a job server"):
        check_address(address)


@case("How a run ends", "a submission where no job server answers", "the message says what to check", exit_code=4)
def test_a_dead_address_is_told() -> None:
    with serving({}) as address:
        pass
    with pytest.raises(UnreachableError, match=rf"--address: no job server answers at {address}"):
        JobServer(address)


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_ANSWER_S", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UnreachableError, match="no job server answers"):
            JobServer(f"http://127.0.0.1:{silent.getsockname()[1]}")


@case("How a run ends", "a submission without the cluster's token", "the message says where to put it", exit_code=4)
@pytest.mark.parametrize(("code", "words"), [(401, "asks for a token"), (403, "refuses the token")])
def test_a_missing_and_a_wrong_token_are_told_apart(code: int, words: str) -> None:
    with (
        serving({"/api/version": (code, "no")}) as address,
        pytest.raises(SurroundingsError, match=rf"job server at {address} {words}\. Set RAY_AUTH_MODE=token"),
    ):
        JobServer(address)


@pytest.mark.parametrize("answer", [(404, "not found"), (200, "{}"), (200, json.dumps({"ray_version": "1.0"}))])
def test_another_server_is_told(answer: tuple[int, str]) -> None:
    with (
        serving({"/api/version": answer}) as address,
        pytest.raises(SurroundingsError, match=rf"the server at {address} is no job server of Ray 2"),
    ):
        JobServer(address)


def test_the_given_address_counts_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    with serving({"/api/version": VERSION, "/api/jobs/": (200, "[]")}) as address:
        assert JobServer(f"{address}/").statuses() == {}


def test_jobs_are_described_as_the_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    details: dict[str, Any] = {
        "driver_exit_code": 3,
        "type": "SUBMISSION",
        "submission_id": "mine",
        "status": "FAILED",
        "entrypoint": "x",
    }
    details |= {"message": "failed with exit code 3"}
    driver = {"type": "DRIVER", "job_id": "01000000", "status": "RUNNING", "entrypoint": "x"}
    answers = {"/api/version": VERSION, "/api/jobs/": (200, json.dumps([details, driver]))}
    answers["/api/jobs/mine"] = (200, json.dumps(details))
    with serving(answers) as address:
        server = JobServer(address)
        assert server.statuses() == {"mine": "FAILED"}
        job = server.job("mine")
        assert (job.status, job.exit_code, job.message) == ("FAILED", 3, "failed with exit code 3")
        with pytest.raises(SurroundingsError, match=r"gone: the cluster at .* does not know this job any more"):
            server.job("gone")
        answers["/api/jobs/mine/logs"] = (500, "the agent is lost")
        answers["/api/jobs/mine"] = (503, "later")
        with pytest.raises(UnreachableError, match="answers 503"):
            server.job("mine")
        with pytest.raises(UnreachableError, match="answers 500"):
            server.log("mine")


@pytest.mark.parametrize(
    ("code", "body", "kind", "message"),
    [
        (400, "ValueError: Job with submission_id mine already exists. Please", JobExistsError, "mine"),
        (500, "ValueError: Package size (200.00MiB) exceeds the maximum size of 100.00MiB. To", UserError, "--exclude"),
        (500, "Traceback\nRuntimeError: no", SurroundingsError, r"refuses the job \(RuntimeError: no"),
    ],
)
def test_a_refused_submission_is_told(code: int, body: str, kind: type[Exception], message: str) -> None:
    with serving({"/api/version": VERSION, "/api/jobs/": (code, body)}) as address:
        server = JobServer(address)
        with pytest.raises(kind, match=message):
            server.submit("mine", "true", {"env_vars": {}}, {})


def test_a_cluster_without_an_agent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_START_S", 0.0)
    answer = (500, "Traceback\nException: No available agent to submit job, please try again later.")
    with serving({"/api/version": VERSION, "/api/jobs/": answer}) as address:
        server = JobServer(address)
        message = (
            rf"cluster at {address} has no agent that takes jobs; given up after 0 s\. Look at dashboard_agent\.log"
        )
        with pytest.raises(SurroundingsError, match=message):
            server.submit("mine", "true", {"env_vars": {}}, {})
