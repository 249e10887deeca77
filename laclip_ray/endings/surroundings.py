"""Errors of the surroundings (store, network, disk, cluster) told from errors of the program, with a remedy for each.

The rules look at the type, the error number and the code of each error of a chain. Where Ray has pickled an error, only
its text is left, so the rules read names and codes from texts too.
"""

import errno
import os
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from laclip_ray.endings import causes
from laclip_ray.endings.causes import Cause


@dataclass(frozen=True)
class Problem:
    """What the surroundings refuse, and what to do about it."""

    what: str
    remedy: str
    location: str = ""
    """The file, URL or bucket, as far as it is known."""
    schemes: tuple[str, ...] = ()
    """URL schemes of the settings that may be concerned, where no location is known."""


_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role"
_ENDPOINT = "Check AWS_ENDPOINT_URL and the network"
_LATER = "Run the same command again later"

_S3_CODES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("InvalidAccessKeyId", "InvalidClientTokenId", "UnrecognizedClientException"),
        ("S3 does not know the access key", f"Check {_KEYS}"),
    ),
    "SignatureDoesNotMatch": ("S3 refuses the signature: the secret key is wrong", f"Check {_KEYS}"),
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"),
        ("the S3 credentials have expired or are not valid", "Renew them, then run the same command again"),
    ),
    **dict.fromkeys(
        ("AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem", "InvalidSecurity", "NotSignedUp"),
        (
            "S3 denies access",
            f"Check {_KEYS}; they need s3:ListBucket and s3:GetObject, for outputs s3:PutObject and s3:DeleteObject",
        ),
    ),
    "RequestTimeTooSkewed": ("S3 refuses the request because this machine's clock is wrong", "Set the clock"),
    "NoSuchBucket": ("the bucket does not exist", "Create it, or correct the name or AWS_ENDPOINT_URL"),
    "InvalidBucketName": ("S3 refuses the bucket's name", "Correct it"),
    **dict.fromkeys(
        (
            *("PermanentRedirect", "301", "307", "Redirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"),
            *("IllegalLocationConstraintException", "InvalidLocationConstraint"),
        ),
        ("the bucket is in another region", "Set AWS_DEFAULT_REGION to the bucket's region"),
    ),
    **dict.fromkeys(
        ("SlowDown", "503", "ServiceUnavailable", "RequestLimitExceeded", "TooManyRequests", "429"),
        ("S3 is overloaded and refuses requests, after several attempts", _LATER),
    ),
    **dict.fromkeys(
        ("InternalError", "500", "502", "504", "OperationAborted", "RequestTimeout"),
        ("S3 fails to answer, after several attempts", _LATER),
    ),
    **dict.fromkeys(
        ("QuotaExceeded", "XMinioStorageFull", "InsufficientStorage", "507", "QuotaExceededException"),
        ("the S3 store is full", "Free some space, or choose another bucket"),
    ),
    **dict.fromkeys(
        ("405", "MethodNotAllowed", "NotImplemented", "501", "400", "BadRequest"),
        ("the server at the S3 endpoint refuses the request", _ENDPOINT),
    ),
}

_S3_TYPES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("NoCredentialsError", "PartialCredentialsError"), ("S3 finds no credentials", f"Set {_KEYS}")),
    **dict.fromkeys(
        (
            *("CredentialRetrievalError", "TokenRetrievalError", "UnauthorizedSSOTokenError", "SSOTokenLoadError"),
            *("SSOError", "RefreshWithMFAUnsupportedError", "MetadataRetrievalError"),
        ),
        ("S3 credentials cannot be retrieved", f"Log in again, or set {_KEYS}"),
    ),
    **dict.fromkeys(
        ("ProfileNotFound", "ConfigNotFound", "ConfigParseError"),
        ("the AWS profile or configuration does not exist or is not readable", "Check AWS_PROFILE and ~/.aws/config"),
    ),
    "NoRegionError": ("S3 needs a region", "Set AWS_DEFAULT_REGION"),
    "ResponseParserError": ("the server at the S3 endpoint does not answer as S3 does", _ENDPOINT),
    "ParamValidationError": ("S3 refuses the bucket's or object's name", "Correct it"),
}

_S3_CODE_IN_TEXT = re.compile(r"An error occurred \((?P<code>[^)]+)\) when calling the \w+ operation")
_HTTP_CODE_IN_TEXT = re.compile(r"\b(?P<code>4\d\d|5\d\d),? (?:message=|Client Error|Server Error)")

_HUB_TYPES: dict[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("OfflineModeIsEnabled",),
        ("HF_HUB_OFFLINE is set, and the files are not in the cache", "Unset it, or give a local directory"),
    ),
    "GatedRepoError": ("the Hugging Face hub denies access", "Accept the model's conditions there, and set HF_TOKEN"),
}
_HUB = ("huggingface.co", "hf.co")
_HUB_REMEDY = "Connect this machine to the network, or give a local directory (the hub's address is HF_ENDPOINT)"

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
_QUOTED_PATH = re.compile(r"'(?P<path>(?:[^'\\]|\\.)*/(?:[^'\\]|\\.)*)'")

_DISK: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", "Free some space, or choose another directory"),
    errno.EDQUOT: ("the disk quota is used up", "Free some space, or choose another directory"),
    errno.EROFS: ("the file system is read-only", "Choose another directory"),
    errno.EACCES: ("permission is denied", "Give this user access, or choose another directory"),
    errno.EPERM: ("the operation is not permitted", "Give this user access, or choose another directory"),
    errno.ENAMETOOLONG: (
        "the name is too long for the file system (255 bytes, and 4,095 for a whole path)",
        "Choose a shorter one",
    ),
    errno.ELOOP: ("its links lead in a circle", "Correct the links"),
    errno.ENOTDIR: ("a part of the path is a file, not a directory", "Choose another path"),
    errno.EMFILE: ("this process may not open more files", "Raise the limit: ulimit -n 65536"),
    errno.ENFILE: ("this machine may not open more files", "Close other programs, or raise fs.file-max"),
    errno.EADDRINUSE: ("another program uses the port", "Stop it, or choose another port"),
    errno.EIO: ("the disk fails to read or write", "Check the disk, or choose another directory"),
    errno.ESTALE: ("the network file system has lost the file", "Mount it again, then run the same command again"),
    errno.EFBIG: ("the file is too large for the file system", "Choose another directory"),
}

_RAY_TYPES: dict[str, tuple[str, str]] = {
    "OutOfDiskError": ("Ray's object store cannot spill: the disk is full", "Free space on the disk of RAY_TMPDIR"),
    "ObjectStoreFullError": ("Ray's object store is full", "Give the node more memory, or lower the read-ahead"),
    "LocalRayletDiedError": ("Ray's process on this node has died", _LATER),
    "RuntimeEnvSetupError": ("Ray cannot set up the job's environment", "Check the working directory and packages"),
    "AuthenticationError": (
        "Ray refuses the connection without a valid token",
        "Copy the cluster's ~/.ray/auth_token here, or set RAY_AUTH_TOKEN",
    ),
}
_RAY_TEXTS: dict[str, tuple[str, str]] = {
    "Version mismatch": (
        "the cluster runs another version of Ray or Python than this process",
        "Use the same environment on all nodes",
    ),
    "Failed to connect to Ray cluster": ("no Ray answers there", "Check RAY_ADDRESS"),
    "timed out during startup": ("Ray did not start on this machine", "See /tmp/ray/session_latest/logs"),
    "AF_UNIX path length": ("its path is too long for Ray's sockets", "Set RAY_TMPDIR to a short one, such as /tmp"),
}


def find_problem(error: BaseException) -> Problem | None:
    """The problem of the surroundings that caused an error; None if there is none."""
    chain = causes.chain(error)[::-1]  # the innermost error says most
    for rule in _RULES:
        for cause in chain:
            if (problem := rule(cause, chain)) is not None:
                return problem if problem.location else replace(problem, location=_location(chain))
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
        return f"{problem.remedy[0].lower()}{problem.remedy[1:]}; then the same command continues"
    if causes.is_loss(error):
        return "the same command continues"
    return "the same command continues once the cause is removed, and ends in the same way if it is not"


def _is_below(location: str, root: str) -> bool:
    root = root.rstrip("/")
    return bool(root) and (location == root or location.startswith(f"{root}/"))


def _location(chain: Sequence[Cause]) -> str:
    """The file that an error of the chain names."""
    for cause in chain:
        for name in ("filename", "filename2"):
            value = getattr(cause.error, name, None)
            if isinstance(value, str | bytes):
                return os.fsdecode(value)
    for cause in chain:
        if _ERRNO.search(cause.text) and (match := _QUOTED_PATH.search(cause.text)):
            return match["path"]
    return ""


def _s3_code(cause: Cause) -> str | None:
    if match := _S3_CODE_IN_TEXT.search(cause.text):
        return match["code"]
    return None


def _s3(cause: Cause, _: Sequence[Cause]) -> Problem | None:
    is_botocore = "botocore" in cause.kind
    entry = _S3_TYPES.get(cause.name) if is_botocore or cause.error is None else None
    bucket = ""
    if entry is None and (code := _s3_code(cause)) is not None:
        entry = _S3_CODES.get(code) or (f"S3 refuses the request ({code})", _ENDPOINT)
        if code in ("404", "NoSuchKey"):
            return None
        response = getattr(cause.error, "response", None) or {}
        name = response.get("Error", {}).get("BucketName")
        bucket = f"s3://{name}" if isinstance(name, str) else ""
    if entry is None and cause.name == "ValueError" and cause.text.startswith("Invalid endpoint"):
        entry = ("AWS_ENDPOINT_URL is not a URL", "Correct it")
    return None if entry is None else Problem(*entry, location=bucket, schemes=("s3://", "s3a://"))


def _hub(cause: Cause, _: Sequence[Cause]) -> Problem | None:
    entry = _HUB_TYPES.get(cause.name)
    return None if entry is None else Problem(*entry, schemes=("hf://",))


def _ray(cause: Cause, _: Sequence[Cause]) -> Problem | None:
    entry = _RAY_TYPES.get(cause.name) if "ray" in cause.kind or cause.error is None else None
    if entry is None:
        entry = next((each for sign, each in _RAY_TEXTS.items() if sign in cause.text), None)
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
        return Problem(f"{_server(chain)} answers {status}", _LATER, schemes=_REMOTE)
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
    entry = _DISK.get(number) if number is not None else None
    return None if entry is None else Problem(*entry)


def _dangling_link(cause: Cause) -> Problem | None:
    path = _location([cause])
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
    return next(filter(None, match.groups()))


def _reach(chain: Sequence[Cause]) -> str:
    """How to reach the server of a chain."""
    server = _server(chain)
    if any(server == host or server.endswith(f".{host}") for host in _HUB) or _is_raised_by("huggingface_hub", chain):
        return _HUB_REMEDY
    return _ENDPOINT if _is_raised_by("botocore", chain) else "Check the address and the network"


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
