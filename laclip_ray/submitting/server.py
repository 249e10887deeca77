"""The job server of a cluster: requests to it, and what its errors mean."""

import logging
import os
import re
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from laclip_ray.endings import causes
from laclip_ray.errors import SurroundingsError, UserError
from laclip_ray.printable import printable_line
from laclip_ray.submitting.job import Job
from laclip_ray.submitting.submission import JobExistsError

_CONNECT_S, _ANSWER_S = 15.0, 120.0
"""How long the server may take to accept a connection, and to answer. An upload of 100 MiB is one answer."""
_START_S = 30.0
"""How long a new head may take until it accepts jobs."""
_OVERRIDING = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that Ray's client prefers to the address that it is given."""
_TALKATIVE = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray's client that tell what this package tells."""
_FAULTS = range(500, 600)
"""HTTP codes of a server's own faults."""
_STATUS = re.compile(r"status code (?P<code>\d{3})")


class UnreachableError(SurroundingsError):
    """The server does not answer now. It may answer later."""


def check_address(address: str) -> None:
    """Refuse an address that cannot be a job server's.

    Raises:
        UserError: with the form of a right one.
    """
    if not re.fullmatch(r"https?://[^\s/@]+/?\S*", address):
        raise UserError(
            f"--address: {address!r} is not the URL of a job server. Give its http address, such as http://HOST:8265"
        )


class JobServer:
    """The job server at an address, asked with the cluster's token if `RAY_AUTH_MODE=token`."""

    def __init__(self, address: str) -> None:
        """Connect.

        Raises:
            UserError: the address is not a URL.
            SurroundingsError: no job server answers there, or it refuses the token.
        """
        check_address(address)
        self.address = address.rstrip("/")
        from ray.job_submission import JobSubmissionClient

        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)

        class Client(JobSubmissionClient):  # type: ignore[misc, unused-ignore]
            """Ray's client, which otherwise waits without end."""

            def _do_request(self, *args: Any, **options: Any) -> Any:
                return super()._do_request(*args, timeout=(_CONNECT_S, _ANSWER_S), **options)

        before = {name: os.environ.pop(name) for name in _OVERRIDING if name in os.environ}
        try:
            with self._errors():
                self._client = Client(self.address)
        except (KeyError, TypeError, ValueError) as error:  # some other server's answer
            raise self._no_job_server() from error
        finally:
            os.environ.update(before)

    @contextmanager
    def _errors(self, temporary: Collection[int] = (502, 503, 504)) -> Iterator[None]:
        """Translate the errors of a request.

        Args:
            temporary: HTTP codes after which the same request may succeed later.
        """
        from aiohttp import ClientError
        from ray.exceptions import AuthenticationError
        from requests import RequestException

        try:
            yield
        except AuthenticationError as error:
            raise SurroundingsError(
                f"--address: the job server at {self.address} {_refusal(str(error))}. Set RAY_AUTH_MODE=token, and "
                "put the cluster's token into ~/.ray/auth_token (or name its file in RAY_AUTH_TOKEN_PATH); "
                "`ray get-auth-token` on the head prints it"
            ) from error
        except (RequestException, ClientError, ConnectionError, TimeoutError) as error:
            raise UnreachableError(
                f"--address: no job server answers at {self.address} ({causes.describe(error)}). Check the address, "
                "that the cluster runs with its dashboard, and the port forward or tunnel to it"
            ) from error
        except RuntimeError as error:
            match = _STATUS.search(str(error))
            status = int(match["code"]) if match else 0
            if status in temporary or "closed unexpectedly" in str(error):
                raise UnreachableError(
                    f"--address: the job server at {self.address} answers {status or 'no more'}. Look at its logs, or "
                    "try again later"
                ) from error
            if "Version check returned 404" in str(error) or "Ray version" in str(error):
                raise self._no_job_server() from error
            raise

    def _no_job_server(self) -> SurroundingsError:
        return SurroundingsError(
            f"--address: the server at {self.address} is no job server of Ray 2. Give the address of the head's "
            "dashboard, such as http://HOST:8265"
        )

    def statuses(self) -> dict[str, str]:
        """The status of every submitted job that the cluster remembers, by submission id."""
        with self._errors(_FAULTS):
            jobs = self._client.list_jobs()
        return {job.submission_id: str(job.status) for job in jobs if job.submission_id}

    def job(self, submission_id: str) -> Job:
        """A job as the server describes it.

        Raises:
            SurroundingsError: it knows no such job, as after the loss of its head, or does not answer.
        """
        try:
            with self._errors(_FAULTS):
                details = self._client.get_job_info(submission_id)
        except RuntimeError as error:
            if isinstance(error, SurroundingsError) or "status code 404" not in str(error):
                raise
            raise SurroundingsError(
                f"{submission_id}: the cluster at {self.address} does not know this job any more; its head was "
                "restarted, or the job was deleted. The same command submits it again"
            ) from error
        return Job(str(details.status), details.driver_exit_code, details.message or "")

    def log(self, submission_id: str) -> str:
        """The whole log of a job."""
        with self._errors(_FAULTS):
            return str(self._client.get_job_logs(submission_id))

    async def tail(self, submission_id: str) -> AsyncIterator[str]:
        """The log of a job from its beginning, in chunks, to the job's end or the end of the connection."""
        with self._errors():
            async for chunk in self._client.tail_job_logs(submission_id):
                yield chunk

    def submit(
        self,
        submission_id: str,
        entry_point: str,
        runtime_env: Mapping[str, Any],
        metadata: Mapping[str, str],
    ) -> None:
        """Upload the working directory and submit a job.

        Raises:
            JobExistsError: the id is taken.
            UserError: the working directory is too large.
            SurroundingsError: the server does not answer or has no agent that takes jobs.
        """
        deadline_s = time.monotonic() + _START_S
        while True:
            try:
                with self._errors():
                    self._client.submit_job(
                        entrypoint=entry_point,
                        submission_id=submission_id,
                        runtime_env=dict(runtime_env),
                        metadata=dict(metadata),
                    )
                return
            except (RuntimeError, ValueError) as error:
                if isinstance(error, UserError | SurroundingsError):
                    raise
                text = str(error)
                if "already exists" in text:
                    raise JobExistsError(submission_id) from error
                if "exceeds the maximum size" in text:
                    raise UserError(
                        f"--working-dir: {_sentence(text, 'exceeds the maximum size')}. Leave files out with --exclude"
                    ) from error
                if "No available agent" not in text:
                    raise SurroundingsError(
                        f"--address: the job server at {self.address} refuses the job ({_last_line(text)})"
                    ) from error
                if time.monotonic() > deadline_s:
                    raise SurroundingsError(
                        f"--address: the cluster at {self.address} has no agent that takes jobs; given up after "
                        f"{_START_S:.0f} s. Look at dashboard_agent.log on its head"
                    ) from error
            time.sleep(1)


def _refusal(text: str) -> str:
    """How the server refuses a token: its message says whether one was sent."""
    return "refuses the token" if "failed" in text.partition(":")[0] else "asks for a token"


def _last_line(text: str) -> str:
    lines: Sequence[str] = [line for line in text.replace("\\n", "\n").splitlines() if line.strip(" .\"'")]
    return printable_line(lines[-1].strip()) if lines else "no reason given"


def _sentence(text: str, sign: str) -> str:
    """The line of a text with this sign, up to the end of its sentence."""
    line = next(line for line in text.replace("\\n", "\n").splitlines() if sign in line)
    return printable_line(line.split("ValueError: ")[-1].split(". ")[0])
