"""Each problem of store, network, disk and cluster becomes one message: setting, event, remedy."""

import errno
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import pytest
import ray.exceptions
import s3fs
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from laclip_ray import storage
from laclip_ray.endings.surroundings import continuation, explain, find_problem
from tests.cases import case
from tests.unit.endings.errors import in_task, raised, refused_by_s3

SETTINGS = {
    "data.path": "s3://laion/shards",
    "output": "/runs/out",
    "rewrite.model": "org/model",
    "text.mode": "single",
}


def problem_of_s3(given: str, happens: str, error: Exception, message: str) -> Any:
    """One error of S3, as a row of the table."""
    return pytest.param(error, message, marks=case("How a run ends", given, happens, exit_code=4), id=given)


S3_PREFIX = "data.path: s3://laion/shards: "


@pytest.mark.parametrize(
    ("error", "message"),
    [
        problem_of_s3(
            "S3 with a wrong secret key",
            "the message names AWS_SECRET_ACCESS_KEY",
            refused_by_s3("SignatureDoesNotMatch"),
            "S3 refuses the signature: the secret key is wrong. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ),
        problem_of_s3(
            "S3 with an access key that it does not know",
            "the message names AWS_ACCESS_KEY_ID",
            refused_by_s3("InvalidAccessKeyId"),
            "S3 does not know the access key. Check AWS_ACCESS_KEY_ID",
        ),
        problem_of_s3(
            "S3 credentials without a right to the bucket",
            "the message lists the rights",
            refused_by_s3("AccessDenied"),
            "S3 denies access. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role; "
            "they need s3:ListBucket",
        ),
        problem_of_s3(
            "S3 credentials that have expired",
            "the message says so",
            refused_by_s3("ExpiredToken"),
            "the S3 credentials have expired or are not valid. Renew them",
        ),
        problem_of_s3(
            "an answer 403 without a text (HEAD)",
            "as access denied",
            refused_by_s3("403", "HeadObject"),
            "S3 denies access. ",
        ),
        problem_of_s3(
            "a bucket in another region",
            "the message names AWS_DEFAULT_REGION",
            refused_by_s3("PermanentRedirect"),
            "the bucket is in another region. Set AWS_DEFAULT_REGION",
        ),
        problem_of_s3(
            "S3 that answers SlowDown after all attempts",
            "the message says to wait",
            refused_by_s3("SlowDown"),
            "S3 is overloaded and refuses requests, after several attempts. Run the same command again later",
        ),
        problem_of_s3(
            "an unknown S3 error code",
            "the message has the code",
            refused_by_s3("WeatherTooHot"),
            "S3 refuses the request (WeatherTooHot). Check AWS_ENDPOINT_URL",
        ),
        problem_of_s3(
            "an AWS profile that does not exist",
            "the message names AWS_PROFILE",
            botocore.exceptions.ProfileNotFound(profile="none"),
            "the AWS profile or configuration does not exist or is not readable. Check AWS_PROFILE",
        ),
        problem_of_s3(
            "an endpoint without S3",
            "the message names AWS_ENDPOINT_URL",
            botocore.parsers.ResponseParserError("Unable to parse response (mismatched tag)"),
            "the server at the S3 endpoint does not answer as S3 does. Check AWS_ENDPOINT_URL",
        ),
        problem_of_s3(
            "an endpoint with a malformed URL",
            "the message names AWS_ENDPOINT_URL",
            ValueError("Invalid endpoint: localhost:9000"),
            "AWS_ENDPOINT_URL is not a URL. Correct it",
        ),
        problem_of_s3(
            "an S3 endpoint without a listener",
            "the message names host and port",
            botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:9/laion?list-type=2"),
            "127.0.0.1:9 cannot be reached. Check AWS_ENDPOINT_URL and the network",
        ),
    ],
)
def test_a_refusal_of_s3_names_setting_event_and_remedy(error: Exception, message: str) -> None:
    assert (explain(error, SETTINGS) or "").startswith(S3_PREFIX + message)
    # Also from a task, where only the text of the inner errors is left.
    in_data_task = in_task(error, ray.exceptions.UserCodeException)
    assert (explain(in_data_task, SETTINGS) or "").startswith(S3_PREFIX + message)


@case("How a run ends", "S3 without credentials", "the message names the variables to set", exit_code=4)
def test_s3_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = s3fs.S3FileSystem(skip_instance_cache=True, endpoint_url="http://127.0.0.1:9")
    message = explain(raised(lambda: store.ls("laion")), SETTINGS)
    assert message is not None
    assert message.startswith(f"{S3_PREFIX}S3 finds no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


@case("How a run ends", "a bucket that does not exist", "the message names the bucket's setting", exit_code=4)
def test_a_missing_bucket_is_told_by_its_name() -> None:
    error = refused_by_s3("NoSuchBucket", BucketName="laion")
    settings = {**SETTINGS, "output": "s3://runs/out"}
    assert explain(error, settings) == (
        "data.path: s3://laion/shards: the bucket does not exist. Create it, or correct the name or AWS_ENDPOINT_URL"
    )


def test_without_a_known_location_all_settings_of_the_store_are_named() -> None:
    settings = {**SETTINGS, "output": "s3://runs/out"}
    message = explain(refused_by_s3("AccessDenied"), settings)
    assert message is not None
    assert message.startswith("data.path: s3://laion/shards, output: s3://runs/out: S3 denies access.")


def certificate_refused() -> Exception:
    """An error of a request to a server with a certificate of its own."""
    error: Exception = botocore.exceptions.SSLError(
        endpoint_url="https://store.local:9000/laion", error="[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"
    )
    error.__cause__ = ssl.SSLCertVerificationError("certificate verify failed: self-signed certificate")
    return error


@case("How a run ends", "an https endpoint with an unknown certificate", "the message names AWS_CA_BUNDLE", exit_code=4)
def test_a_refused_certificate() -> None:
    message = explain(certificate_refused(), SETTINGS)
    assert message is not None
    assert message.startswith(f"{S3_PREFIX}the certificate of store.local:9000 is refused. Name the file of its")
    assert "AWS_CA_BUNDLE" in message


def test_https_at_a_port_without_it() -> None:
    error = botocore.exceptions.SSLError(
        endpoint_url="https://a:1/b", error="[SSL: WRONG_VERSION_NUMBER] wrong version"
    )
    assert "a:1 does not answer by https. Check the address" in (explain(error, SETTINGS) or "")


def hub_without_network() -> Exception:
    """What transformers raises for a model of the hub without a network."""

    def fail() -> None:
        try:
            try:
                raise socket.gaierror(-3, "Temporary failure in name resolution")
            except OSError as error:
                raise LocalEntryNotFoundError("cannot find the requested files in the local cache") from error
        except OSError as error:
            raise OSError(
                "We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the "
                "cached files.\nCheck your internet connection: org/model"
            ) from error

    return raised(fail)


@case(
    "How a run ends", "a model or data set of the hub, without a network", "the message names its setting", exit_code=4
)
def test_the_hub_without_a_network() -> None:
    message = explain(hub_without_network(), SETTINGS)
    assert message == (
        "rewrite.model: org/model: huggingface.co cannot be reached. Connect this machine to the network, or give a "
        "local directory (the hub's address is HF_ENDPOINT)"
    )


def test_the_hub_offline_by_choice() -> None:
    message = explain(OfflineModeIsEnabled("offline"), {"data.path": "hf://datasets/a/b"})
    assert message is not None
    assert message.startswith("data.path: hf://datasets/a/b: HF_HUB_OFFLINE is set")


def denied_by_http(status: int) -> Exception:
    """An answer of a web server."""
    info: Any = type("Info", (), {"real_url": "https://host/a.tar"})()
    return aiohttp.ClientResponseError(info, (), status=status, message="refused")


@pytest.mark.parametrize(
    ("status", "what"), [(403, "host denies access (403)"), (503, "host answers 503"), (404, None), (200, None)]
)
def test_answers_of_a_web_server(status: int, what: str | None) -> None:
    problem = find_problem(denied_by_http(status))
    assert (problem.what if problem is not None else None) == what


def problem_of_disk(given: str, number: int, what: str, happens: str = "the message names file and remedy") -> Any:
    """One error number, as a row of the table."""
    return pytest.param(number, what, marks=case("How a run ends", given, happens, exit_code=4), id=given)


@pytest.mark.parametrize(
    ("number", "what"),
    [
        problem_of_disk("a full disk", errno.ENOSPC, "the disk is full"),
        problem_of_disk("an exhausted disk quota", errno.EDQUOT, "the disk quota is used up"),
        problem_of_disk("a read-only file system", errno.EROFS, "the file system is read-only"),
        problem_of_disk("a directory without write permission", errno.EACCES, "permission is denied"),
        problem_of_disk("too long a file name", errno.ENAMETOOLONG, "the name is too long"),
        problem_of_disk("links that lead in a circle", errno.ELOOP, "its links lead in a circle"),
        problem_of_disk("a file as part of a path", errno.ENOTDIR, "a part of the path is a file"),
        problem_of_disk("too many open files", errno.EMFILE, "this process may not open more files"),
        problem_of_disk("a network file system mounted anew", errno.ESTALE, "the network file system has lost"),
    ],
)
def test_errors_of_the_disk(number: int, what: str) -> None:
    error = OSError(number, os.strerror(number), "/runs/out/train/state.json")
    expected = f"output: /runs/out/train/state.json: {what}"
    assert (explain(error, SETTINGS) or "").startswith(expected)
    assert (explain(in_task(error), SETTINGS) or "").startswith(expected)
    assert (explain(in_task(error, ray.exceptions.UserCodeException), SETTINGS) or "").startswith(expected)


def test_the_nearest_setting_above_a_file_is_named() -> None:
    settings = {"output": "/runs", "train.output": "/runs/train", "data.path": "/run"}
    error = PermissionError(errno.EACCES, "Permission denied", "/runs/train/a")
    assert (explain(error, settings) or "").startswith("train.output: /runs/train/a: permission is denied")
    elsewhere = PermissionError(errno.EACCES, "Permission denied", "/elsewhere")
    assert (explain(elsewhere, settings) or "").startswith("/elsewhere: permission is denied")


def test_a_file_that_the_error_does_not_name_is_the_one_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")  # as a failed write, which names no file

    monkeypatch.setattr(Path, "write_bytes", fail)
    error = raised(lambda: storage.write_json(str(tmp_path / "out" / "state.json"), {}))
    message = explain(error, {"output": str(tmp_path / "out"), "data.path": str(tmp_path)})
    assert message is not None
    assert message.startswith(f"output: {tmp_path}/out/state.json: the disk is full.")


def test_a_url_that_the_error_does_not_name_is_the_one_that_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise refused_by_s3("AccessDenied")

    monkeypatch.setattr(s3fs.S3FileSystem, "cat_file", refuse)
    error = raised(lambda: storage.read_json("s3://runs/out/rows.json"))
    message = explain(error, {**SETTINGS, "output": "s3://runs/out"})
    assert message is not None
    assert message.startswith("output: s3://runs/out/rows.json: S3 denies access.")


@case("How a run ends", "a port that another program uses", "the message says so", exit_code=4)
def test_a_port_in_use() -> None:
    with socket.socket() as taken, socket.socket() as second:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        error = raised(lambda: second.bind(taken.getsockname()))
    assert explain(error, {}) == "another program uses the port. Stop it, or choose another port"


@case("How a run ends", "a dangling link", "the message names link and target", exit_code=4)
def test_a_dangling_link(tmp_path: Path) -> None:
    link = tmp_path / "out"
    link.symlink_to("/no/such/place")
    for fail in (lambda: link.mkdir(parents=True, exist_ok=True), link.read_bytes):
        message = explain(raised(fail), {"output": str(link)})
        assert message == (
            f"output: {link}: is a link to /no/such/place, which does not exist. Create that, or remove the link"
        )


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (ray.exceptions.OutOfDiskError("full"), "Ray's object store cannot spill: the disk is full"),
        (ray.exceptions.RuntimeEnvSetupError("pip failed"), "Ray cannot set up the job's environment"),
        (RuntimeError("Version mismatch: The cluster was started with: Ray: 2.9"), "the cluster runs another version"),
    ],
)
def test_problems_of_the_cluster(error: Exception, what: str) -> None:
    assert (explain(error, {}) or "").startswith(f"Ray: {what}")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        FileNotFoundError(errno.ENOENT, "No such file", "/runs/out/gone"),
        KeyError("Errno 28"),
        RuntimeError("[gloo] Connection closed by peer"),
        ray.exceptions.GetTimeoutError("late"),
        refused_by_s3("NoSuchKey"),
        AssertionError(),
    ],
    ids=repr,
)
def test_errors_of_the_program_are_not_explained(error: Exception) -> None:
    assert explain(error, SETTINGS) is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "full", "/x"), "free some space, or choose another directory; then the same command"),
        (refused_by_s3("SlowDown"), "run the same command again later"),
        (ray.exceptions.ActorDiedError(), "the same command continues"),
        (ValueError("bad"), "the same command continues once the cause is removed, and ends in the same way if it"),
    ],
)
def test_the_same_command_continues_only_where_that_is_true(error: Exception, words: str) -> None:
    assert continuation(error).startswith(words)
