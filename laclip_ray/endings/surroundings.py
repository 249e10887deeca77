"""Errors of the surroundings (store, network, disk, cluster) told from errors of the program, with a remedy for each.

The rules look at the type, the error number and the code of each error of a chain. Where Ray has pickled an error, only
its text is left, so the rules read names and codes from texts too.
"""

import errno
import os
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from laclip_ray.endings import causes
from laclip_ray.endings.causes import Cause
from laclip_ray.endings.remedies import (
    DISK,
    ENDPOINT,
    HUB,
    HUB_REMEDY,
    HUB_TYPES,
    LATER,
    RAY_TEXTS,
    RAY_TYPES,
    S3_CODES,
    S3_TYPES,
)


@dataclass(frozen=True)
class Problem:
    """A refusal of the surroundings, and its remedy."""

    what: str
    remedy: str
    location: str = ""
    """The file, URL or bucket, if known."""
    schemes: tuple[str, ...] = ()
    """URL schemes of the settings that may be concerned, where no location is known."""


_S3_CODE_IN_TEXT = re.compile(r"An error occurred \((?P<code>[^)]+)\) when calling the \w+ operation")
_HTTP_CODE_IN_TEXT = re.compile(r"\b(?P<code>4\d\d|5\d\d),? (?:message=|Client Error|Server Error)")

_NETWORK_TYPES = frozenset(
    (
        *("EndpointConnectionError", "ConnectionClosedError", "ConnectTimeoutError", "ReadTimeoutError"),
        *("ProxyConnectionError", "HTTPClientError", "ClientConnectorError", "ClientConnectorDNSError"),
        *("ClientConnectionError", "ClientOSError", "ServerDisconnectedError", "ServerTimeoutError"),
        *("SocketTimeoutError", "ConnectionTimeoutError", "ConnectError", "ConnectTimeout", "ReadTimeout"),
        *("NameResolutionError", "NewConnectionError", "MaxRetryError", "LocalEntryNotFoundError", "gaierror"),
        *("ConnectionError", "ConnectionRefusedError", "ConnectionResetError", "ConnectionAbortedError"),
        "RemoteProtocolError",
    )
)
_NETWORK_ERRNOS = frozenset(
    (
        *(errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT),
        *(errno.ENETDOWN, errno.EHOSTDOWN, errno.ECONNABORTED),
    )
)
_NETWORK_TEXTS = ("couldn't connect to 'http", "Name or service not known", "Temporary failure in name resolution")

_HOST = re.compile(
    r"https?://(?P<url>[^\s/'\"<>?)\]]+)|host=\\?'(?P<pool>[^'\\]+)'|connect to host (?P<aiohttp>[^\s:]+:\d+)"
)
_ERRNO = re.compile(r"\[Errno (?P<number>\d+)\]")
_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_QUOTED_PATH = re.compile(r"'(?P<path>(?:[^'\\]|\\.)*/(?:[^'\\]|\\.)*)'")


def find_problem(error: BaseException) -> Problem | None:
    """The problem of the surroundings that caused an error; None if there is none."""
    chain = causes.chain(error)[::-1]  # the innermost error says most
    for rule in _RULES:
        for cause in chain:
            if (problem := rule(cause, chain)) is not None:
                return problem if problem.location else replace(problem, location=_location(chain, problem))
    return None


def explain(error: BaseException, settings: Mapping[str, str]) -> str | None:
    """One message about the problem of the surroundings that caused an error: setting, event, remedy.

    Args:
        error: any error.
        settings: paths, URLs and names of models by config key.

    Returns:
        None if the surroundings did not cause the error.
    """
    problem = find_problem(error)
    if problem is None:
        return None
    concerned = concerned_settings(problem, [cause.text for cause in causes.chain(error)], settings)
    if concerned and _is_below(problem.location, settings[concerned[0]]):
        subjects = [f"{concerned[0]}: {problem.location}"]
    else:
        subjects = [f"{key}: {settings[key]}" for key in concerned] or [*filter(None, [problem.location])]
    return ": ".join([*filter(None, [", ".join(subjects)]), f"{problem.what}. {problem.remedy}"])


def concerned_settings(problem: Problem, texts: Sequence[str], settings: Mapping[str, str]) -> list[str]:
    """The config keys that a problem concerns: by its location, by a value in the errors' texts, or by scheme."""
    location = problem.location
    below = [key for key, value in settings.items() if _is_below(location, value)]
    if below:
        longest = max(len(settings[key].rstrip("/")) for key in below)
        return [key for key in below if len(settings[key].rstrip("/")) == longest][:1]
    if problem.schemes and (
        inside := [key for key, value in settings.items() if location and _is_below(value, location)]
    ):
        return inside  # the location is a bucket
    named = [key for key, value in settings.items() if "/" in value and any(value in text for text in texts)]
    if named:
        return named
    return [key for key, value in settings.items() if value.startswith(problem.schemes)] if problem.schemes else []


def continuation(error: BaseException) -> str:
    """When the same command continues a run that an error ended, as the end of a sentence."""
    if (problem := find_problem(error)) is not None:
        remedy = f"{problem.remedy[0].lower()}{problem.remedy[1:]}"
        return remedy if "same command" in remedy else f"{remedy}; then the same command continues"
    if causes.is_loss(error):
        return "the same command continues"
    return "the same command continues once the cause is removed, and ends in the same way if it is not"


def _is_below(location: str, root: str) -> bool:
    root = root.rstrip("/")
    return bool(root) and (location == root or location.startswith(f"{root}/"))


def _location(chain: Sequence[Cause], problem: Problem) -> str:
    """The file or URL of a problem, as an error of the chain names it, or as this package's code calls it."""
    for cause in chain:
        for name in ("filename", "filename2"):
            value = getattr(cause.error, name, None)
            if isinstance(value, str | bytes) and not problem.schemes:
                return os.fsdecode(value)
    for cause in chain:
        if _ERRNO.search(cause.text) and (match := _QUOTED_PATH.search(cause.text)) and not problem.schemes:
            return match["path"]
    # A failed write of a local file, and most errors of remote stores, do not say which file it was.
    start = problem.schemes or ("/",)
    return next((value for value in _called_with(chain) if value.startswith(start)), "")


def _called_with(chain: Sequence[Cause]) -> Iterator[str]:
    """The paths and URLs that the functions of this package which raised a chain were working on, innermost first."""
    for cause in chain:
        frames = list(traceback.walk_tb(cause.error.__traceback__)) if cause.error is not None else []
        for frame, _ in reversed(frames):
            if frame.f_code.co_filename.startswith(_PACKAGE):
                for name in ("url", "path", "target", "location", "output"):
                    if isinstance(value := frame.f_locals.get(name), str | os.PathLike):
                        yield os.fsdecode(value)


def _s3_code(cause: Cause) -> str | None:
    if match := _S3_CODE_IN_TEXT.search(cause.text):
        return match["code"]
    return None


def _s3(cause: Cause, _: Sequence[Cause]) -> Problem | None:
    is_botocore = "botocore" in cause.kind
    entry = S3_TYPES.get(cause.name) if is_botocore or cause.error is None else None
    bucket = ""
    if entry is None and (code := _s3_code(cause)) is not None:
        entry = S3_CODES.get(code) or (f"S3 refuses the request ({code})", ENDPOINT)
        if code in ("404", "NoSuchKey"):
            return None
        response = getattr(cause.error, "response", None) or {}
        name = response.get("Error", {}).get("BucketName")
        bucket = f"s3://{name}" if isinstance(name, str) else ""
    if entry is None and cause.name == "ValueError" and cause.text.startswith("Invalid endpoint"):
        entry = ("AWS_ENDPOINT_URL is not a URL", "Correct it")
    return None if entry is None else Problem(*entry, location=bucket, schemes=("s3://", "s3a://"))


def _hub(cause: Cause, _: Sequence[Cause]) -> Problem | None:
    entry = HUB_TYPES.get(cause.name)
    return None if entry is None else Problem(*entry, schemes=("hf://",))


def _ray(cause: Cause, _: Sequence[Cause]) -> Problem | None:
    entry = RAY_TYPES.get(cause.name) if "ray" in cause.kind or cause.error is None else None
    if entry is None:
        entry = next((each for sign, each in RAY_TEXTS.items() if sign in cause.text), None)
    return None if entry is None else Problem(*entry, location="Ray")


def _certificate(cause: Cause, chain: Sequence[Cause]) -> Problem | None:
    server = _server(chain)
    if "CERTIFICATE_VERIFY_FAILED" in cause.text or cause.name == "SSLCertVerificationError":
        remedy = "Name the file of its authority in AWS_CA_BUNDLE (for S3) or SSL_CERT_FILE"
        return Problem(f"the certificate of {server} is refused", remedy, schemes=_REMOTE)
    if "WRONG_VERSION_NUMBER" in cause.text or cause.name in ("SSLError", "ClientConnectorSSLError"):
        return Problem(
            f"{server} does not answer by https", "Check the address: http or https, and port", schemes=_REMOTE
        )
    return None


_REMOTE = ("s3://", "s3a://", "gs://", "az://", "abfs://", "hf://", "http://", "https://")


def _http(cause: Cause, chain: Sequence[Cause]) -> Problem | None:
    if cause.name not in ("ClientResponseError", "HTTPStatusError", "HTTPError", "HfHubHTTPError"):
        return None
    status = getattr(cause.error, "status", None) or getattr(
        getattr(cause.error, "response", None), "status_code", None
    )
    if status is None and (match := _HTTP_CODE_IN_TEXT.search(cause.text)):
        status = int(match["code"])
    if status in (401, 403):
        remedy = "Check the credentials (HF_TOKEN for the hub)"
        return Problem(f"{_server(chain)} denies access ({status})", remedy, schemes=_REMOTE)
    if isinstance(status, int) and (status == 429 or status >= 500):
        return Problem(f"{_server(chain)} answers {status}", LATER, schemes=_REMOTE)
    return None


def _disk(cause: Cause, _: Sequence[Cause]) -> Problem | None:
    error = cause.error
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if number is None and (error is None or not isinstance(error, OSError)) and (match := _ERRNO.search(cause.text)):
        number = int(match["number"])
    if number in (errno.EEXIST, errno.ENOENT):
        return _dangling_link(cause)
    if number is None and "No space left on device" in cause.text:
        number = errno.ENOSPC
    entry = DISK.get(number) if number is not None else None
    return None if entry is None else Problem(*entry)


def _dangling_link(cause: Cause) -> Problem | None:
    path = _location([cause], Problem("", ""))
    try:
        link = Path(path)
        if path and link.is_symlink() and not link.exists():
            target = os.readlink(path)  # noqa: PTH115 - Path would normalise the text
            return Problem(f"is a link to {target}, which does not exist", "Create that, or remove the link", path)
    except OSError:
        pass
    return None


def _network(cause: Cause, chain: Sequence[Cause]) -> Problem | None:
    error, text = cause.error, cause.text
    number = getattr(error, "errno", None) if isinstance(error, OSError) else None
    if (
        cause.name in _NETWORK_TYPES
        or number in _NETWORK_ERRNOS
        or (isinstance(error, TimeoutError) and not cause.kind.startswith("ray."))
        or any(sign in text for sign in _NETWORK_TEXTS)
    ):
        return Problem(f"{_server(chain)} cannot be reached", _reach(chain), schemes=_REMOTE)
    return None


def _server(chain: Sequence[Cause]) -> str:
    """The host that the texts of a chain name."""
    match = _HOST.search("\n".join(cause.text for cause in chain))
    if match is None:
        return "the Hugging Face hub" if _is_raised_by("huggingface_hub", chain) else "the server"
    host: str = next(filter(None, match.groups()))
    return host


def _reach(chain: Sequence[Cause]) -> str:
    """How to reach the server of a chain."""
    server = _server(chain)
    if any(server == host or server.endswith(f".{host}") for host in HUB) or _is_raised_by("huggingface_hub", chain):
        return HUB_REMEDY
    return ENDPOINT if _is_raised_by("botocore", chain) else "Check the address and the network"


def _is_raised_by(package: str, chain: Sequence[Cause]) -> bool:
    """Whether a package has raised one of the errors, or a call of it has."""
    for cause in chain:
        if package in cause.kind:
            return True
        frames = traceback.walk_tb(cause.error.__traceback__) if cause.error is not None else ()
        if any(package in frame.f_code.co_filename for frame, _ in frames):
            return True
    return False


_RULES: tuple[Callable[[Cause, Sequence[Cause]], Problem | None], ...] = (
    _s3,
    _hub,
    _ray,
    _certificate,
    _http,
    _disk,
    _network,
)
"""The first rule that knows a cause decides."""
