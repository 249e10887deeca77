"""Images are fetched from public hosts only, within limits, and every failure has a name."""

import asyncio
import gzip
import ipaddress
import socket
import time
import zlib
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data import http_images
from laclip_ray.data.http_images import HttpError, HttpFetcher, HttpRules, TooLargeError, host_and_port, is_public
from tests.cases import case
from tests.unit.data.servers import Answer, http_server

SECTION = "Reading data"
SCHEMES = frozenset(("http", "https"))
ANYWHERE = HttpRules(SCHEMES, private_hosts=True, known_hosts=frozenset())
PUBLIC = HttpRules(SCHEMES, private_hosts=False, known_hosts=frozenset())


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_images, "_PAUSES_S", (0.0, 0.0))


def reason_of(url: str, rules: HttpRules = ANYWHERE, **options: Any) -> str:
    with pytest.raises(HttpError) as caught:
        HttpFetcher(rules).fetch(url, 1_000, **options)
    return caught.value.reason


def serve(*answers: Answer) -> Callable[[str], Answer]:
    """Give the answers in turn, and the last one again and again."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


@pytest.mark.parametrize(
    ("path", "requested"),
    [
        ("/a%2Fb.png?c=d%2Fe%3D&f=%7E", None),
        ("/a b.png", "/a%20b.png"),
        ("/ä.png", "/%C3%A4.png"),
        ("/a%20b c", "/a%20b%20c"),
    ],
)
def test_a_body_is_fetched_from_the_url_as_it_is_written(path: str, requested: str | None) -> None:
    with http_server(serve(Answer(body=b"picture"))) as (url, asked):
        assert HttpFetcher(ANYWHERE).fetch(url + path, 7) == b"picture"
        assert asked == [requested or path]


@pytest.mark.parametrize("status", [400, 403, 404, 410, 451, 501])
@case(
    SECTION,
    "an image URL on another host that answers 403, 404, 410 or any other refusal",
    "asked once; the row is counted by the status",
    counted_as="image_http_403",
)
def test_a_refusal_is_named_by_its_status_and_not_repeated(status: int) -> None:
    with http_server(serve(Answer(status))) as (url, asked):
        assert reason_of(url) == f"image_http_{status}"
        assert len(asked) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@case(
    SECTION,
    "an image URL on another host that answers 429 or 5xx",
    "asked at most three times, with pauses; then the row is counted by the status",
    counted_as="image_http_429",
)
def test_a_transient_failure_is_repeated_a_bounded_number_of_times(status: int) -> None:
    with http_server(serve(Answer(status), Answer(status), Answer(body=b"x"))) as (url, asked):
        assert HttpFetcher(ANYWHERE).fetch(url, 10) == b"x"
        assert len(asked) == 3
    with http_server(serve(Answer(status))) as (url, asked):
        assert reason_of(url) == f"image_http_{status}"
        assert len(asked) == 3


@pytest.mark.parametrize(
    ("form", "pause_s"), [(str, 1), (lambda pause_s: formatdate(time.time() + pause_s, usegmt=True), 2)]
)
@case(
    SECTION,
    "a host that asks for a pause (Retry-After)",
    "asked again after that pause; not at all if it is longer than 30 s",
    counted_as="image_http_429",
)
def test_a_hosts_pause_is_kept_up_to_a_bound(form: Callable[[int], str], pause_s: int) -> None:
    with http_server(serve(Answer(429, headers={"Retry-After": form(pause_s)}), Answer(body=b"x"))) as (url, _):
        start_s = time.monotonic()
        assert HttpFetcher(ANYWHERE).fetch(url, 10) == b"x"
        assert time.monotonic() - start_s > 0.9  # dates have whole seconds
    with http_server(serve(Answer(429, headers={"Retry-After": form(3_600)}), Answer(body=b"x"))) as (url, asked):
        assert reason_of(url) == "image_http_429"
        assert len(asked) == 1


@pytest.mark.parametrize("header", ["", "soon", "-1", "1e9", "Mon, 99 Foo 2024"])
def test_a_pause_that_is_not_one_is_none(header: str) -> None:
    assert http_images._pause_s(header) == 0


def test_a_host_that_keeps_failing_is_asked_once_for_each_image() -> None:
    fetcher = HttpFetcher(ANYWHERE)
    with http_server(serve(Answer(503))) as (url, asked):
        for number in range(5):
            with pytest.raises(HttpError):
                fetcher.fetch(f"{url}/{number}", 10)
        assert len(asked) == 3 + 3 + 3 + 1 + 1


@case(SECTION, "an image's host that never answers", "given up after a time; counted", counted_as="image_timeout")
def test_a_host_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_images, "_TIMEOUT", aiohttp.ClientTimeout(total=0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert reason_of(f"http://127.0.0.1:{silent.getsockname()[1]}/x") == "image_timeout"


@case(
    SECTION,
    "an image's host is unknown, refuses connections, or breaks them off",
    "the row is counted",
    counted_as="image_connection_failed",
)
def test_a_connection_that_fails_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}/x"
    for url in (closed, "http://no.such.host.invalid/x"):
        assert reason_of(url) == "image_connection_failed"
    with http_server(serve(Answer(body=b"half", is_cut=True))) as (url, asked):
        assert reason_of(url) == "image_connection_failed"
        assert len(asked) == 3


@pytest.mark.parametrize("url", ["http://", "http:///x", "http://[::1", "http://a:99999999/x"])
@case(SECTION, "an image URL that cannot be parsed", "the row is counted", counted_as="image_url_invalid")
def test_a_broken_url_is_named(url: str) -> None:
    assert reason_of(url) == "image_url_invalid"


PRIVATE = [
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1"),
    *("0.0.0.0", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1"),  # noqa: S104
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:0a00:1:0:0:f5ff:fffe"),
]


def test_addresses_that_are_not_public_are_known() -> None:
    assert [address for address in PRIVATE if is_public(address)] == []
    assert all(map(is_public, ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808")))


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_as_public_in_ipv6(address: ipaddress.IPv4Address) -> None:
    public = is_public(str(address))
    assert is_public(f"::ffff:{address}") == public
    if not public:
        assert not is_public(f"64:ff9b::{address}")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "[::ffff:127.0.0.1]", "①②⑦.0.0.1", "0.0.0.0"],  # noqa: S104
)
@case(
    SECTION,
    "a manifest URL of this machine, a private network or a cloud's metadata service",
    "no request is sent; the row is counted",
    counted_as="image_host_refused",
)
def test_a_host_with_a_private_address_is_not_asked(host: str) -> None:
    with http_server(serve(Answer(body=b"secret"))) as (url, asked):
        port = url.rpartition(":")[2]
        assert reason_of(f"http://{host}:{port}/x", PUBLIC) == "image_host_refused"
        assert asked == []


@pytest.mark.parametrize("host", ["localhost.", "2130706433", "127.1", "017700000001", "0x7f.1", "0177.0.0.1"])
def test_other_spellings_of_a_private_address_are_not_asked(host: str) -> None:
    with http_server(serve(Answer(body=b"secret"))) as (url, asked):
        port = url.rpartition(":")[2]
        assert reason_of(f"http://{host}:{port}/x", PUBLIC).startswith("image_")
        assert asked == []


@case(
    SECTION,
    "a manifest URL whose host's name leads to a private address (DNS rebinding)",
    "the name is resolved once, and its public addresses are connected to; without any, no request is sent",
    counted_as="image_host_refused",
)
def test_a_name_is_resolved_once_to_its_public_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["127.0.0.1", "10.0.0.1"]
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert reason_of("http://pictures.example/x", PUBLIC) == "image_host_refused"
    assert asked == ["pictures.example"]

    async def resolve() -> list[str]:
        return [result["host"] for result in await http_images._PublicResolver().resolve("pictures.example", 80)]

    found[1] = "8.8.8.8"
    assert asyncio.run(resolve()) == ["8.8.8.8"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    def answer(path: str) -> Answer:
        return Answer(body=b"x") if path == "/there" else Answer(status, headers={"Location": "/there"})

    with http_server(answer) as (url, asked):
        assert HttpFetcher(ANYWHERE).fetch(f"{url}/here", 10) == b"x"
        assert asked == ["/here", "/there"]


@case(
    SECTION,
    "an image URL that redirects to this machine or a private network",
    "the redirect is not followed; the row is counted",
    counted_as="image_host_refused",
)
def test_a_redirect_to_a_private_address_is_not_followed() -> None:
    with http_server(serve(Answer(body=b"secret"))) as (inner, asked_inside):
        for target in (f"{inner}/x", inner.replace("127.0.0.1", "localhost")):
            with http_server(serve(Answer(302, headers={"Location": target}))) as (outer, _):
                rules = HttpRules(SCHEMES, private_hosts=False, known_hosts=frozenset((host_and_port(outer),)))
                assert reason_of(outer, rules) == "image_host_refused"
        assert asked_inside == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/x", "https://127.0.0.1/x"])
@case(
    SECTION,
    "an image URL that redirects to a scheme that is not allowed",
    "the redirect is not followed; the row is counted",
    counted_as="image_scheme_refused",
)
def test_a_redirect_to_another_scheme_is_not_followed(target: str) -> None:
    rules = HttpRules(frozenset(("http",)), private_hosts=True, known_hosts=frozenset())
    with http_server(serve(Answer(302, headers={"Location": target}))) as (url, _):
        assert reason_of(url, rules) == "image_scheme_refused"


@case(SECTION, "an image URL that redirects in a circle", "given up", counted_as="image_too_many_redirects")
def test_redirects_are_bounded() -> None:
    with http_server(serve(Answer(302, headers={"Location": "/again"}))) as (url, asked):
        assert reason_of(url) == "image_too_many_redirects"
        assert len(asked) == 6


@pytest.mark.parametrize("is_chunked", [False, True])
@case(
    SECTION,
    "an image URL with a body of 1 GiB, with or without a length",
    "reading stops at data.max_image_bytes; the row is counted",
    counted_as="image_too_large",
)
def test_a_body_is_read_up_to_the_limit(is_chunked: bool) -> None:
    with http_server(serve(Answer(body=bytes(2**20), is_chunked=is_chunked))) as (url, _):
        assert HttpFetcher(ANYWHERE).fetch(url, 2**20) == bytes(2**20)
        with pytest.raises(TooLargeError) as caught:
            HttpFetcher(ANYWHERE).fetch(url, 2**20 - 1)
        assert caught.value.declared_bytes == (None if is_chunked else 2**20)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@case(
    SECTION,
    "an image URL with a compressed body that expands to gigabytes",
    "decompression stops at data.max_image_bytes; the row is counted",
    counted_as="image_too_large",
)
def test_a_compressed_body_is_expanded_up_to_the_limit(encoding: str, compress: Callable[[bytes], bytes]) -> None:
    body = compress(bytes(2**24))
    with http_server(serve(Answer(body=body, headers={"Content-Encoding": encoding}))) as (url, _):
        assert HttpFetcher(ANYWHERE).fetch(url, 2**24) == bytes(2**24)
        with pytest.raises(TooLargeError):
            HttpFetcher(ANYWHERE).fetch(url, 2**20)


def test_a_body_that_cannot_be_decompressed_is_unreadable() -> None:
    with http_server(serve(Answer(body=b"plain", headers={"Content-Encoding": "gzip"}))) as (url, _):
        assert reason_of(url) == "image_unreadable"


def test_closing_ends_running_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_images, "_PAUSES_S", (60.0,))
    fetcher = HttpFetcher(ANYWHERE)
    fetcher.close()
    with http_server(serve(Answer(503))) as (url, asked):
        start_s = time.monotonic()
        with pytest.raises(HttpError):
            fetcher.fetch(url, 10)
        assert time.monotonic() - start_s < 30
        assert asked == []
