"""Fetch images over HTTP from untrusted hosts.

Guarantees: a request goes only to an allowed scheme and, by default, to a public address. Each redirect is checked
again. A host name is resolved once, and the connection uses the checked address. A body is read up to the limit,
compressed or not. Times, redirects and retries are bounded.

Not covered: proxies, which would resolve the names themselves. The environment's proxy settings are not used.
"""

import asyncio
import atexit
import ipaddress
import re
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from fsspec.asyn import get_loop
from yarl import URL

from laclip_ray.data.image_formats import IMAGE_UNREADABLE

IMAGE_SCHEME_REFUSED = "image_scheme_refused"
"""Problem: the image's URL, or a redirect from it, has a scheme outside `data.image_schemes`."""

IMAGE_HOST_REFUSED = "image_host_refused"
"""Problem: the image's URL, or a redirect from it, leads to a private address."""

IMAGE_URL_INVALID = "image_url_invalid"
"""Problem: the image's URL cannot be parsed."""

IMAGE_TIMEOUT = "image_timeout"
"""Problem: the image's host did not answer in time."""

IMAGE_CONNECTION_FAILED = "image_connection_failed"
"""Problem: the image's host has an unknown name, refuses connections, or broke one."""

IMAGE_TOO_MANY_REDIRECTS = "image_too_many_redirects"
"""Problem: more than `_MAX_REDIRECTS` redirects lead to the image."""

_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=20)
_CLOSE_TIMEOUT_S = 5.0
_MAX_REDIRECTS = 5
_REDIRECTS = frozenset((301, 302, 303, 307, 308))
_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses after which a request is retried."""
_PAUSES_S = (0.5, 2.0)
"""Pauses before the second and the third request for an image."""
_MAX_PAUSE_S = 30.0
"""A host that asks for a longer pause (`Retry-After`) is not asked again."""
_PATIENCE = 3
"""Consecutive images that a host may fail to serve. After that, its images get one request each."""
_QUOTED = re.compile(r"[!#-;=?-Z\[\]_a-z~]*")
"""Characters that a quoted URL may have."""
_EMBEDDING_NETWORKS = (ipaddress.IPv6Network("64:ff9b::/96"),)
"""IPv6 networks of gateways to IPv4 (NAT64); the addresses end in the IPv4 address."""


class HttpError(Exception):
    """An image could not be fetched."""

    def __init__(self, reason: str, *, is_transient: bool = False, pause_s: float = 0.0) -> None:
        """Make an error.

        Args:
            reason: a name that begins with `image_`.
            is_transient: whether the same request may succeed later.
            pause_s: how long the host asks to wait before that.
        """
        super().__init__(reason)
        self.reason = reason
        self.is_transient = is_transient
        self.pause_s = pause_s


class TooLargeError(Exception):
    """The body has more bytes than asked for."""

    def __init__(self, declared_bytes: int | None) -> None:
        super().__init__(declared_bytes)
        self.declared_bytes = declared_bytes
        """The size of the body in its header; None if the header does not tell it."""


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public Internet, itself and any IPv4 address that it embeds.

    >>> [is_public(address) for address in ("8.8.8.8", "10.0.0.1", "::ffff:127.0.0.1", "169.254.169.254")]
    [True, False, False, False]
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        if any(ip in network for network in _EMBEDDING_NETWORKS):
            embedded.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
        if any(inner is not None and not _is_public(inner) for inner in embedded):
            return False
        if ip.ipv4_mapped is not None:
            return True
    return _is_public(ip)


def _is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return ip.is_global and not ip.is_multicast


def host_and_port(url: str) -> tuple[str | None, int | None]:
    """Host and port of a URL, as in `HttpRules.known_hosts`."""
    parsed = _parse(url)
    return parsed.host, parsed.port


def _parse(url: str) -> URL:
    """A URL, quoted only if it has characters that need it. Quoting again would break signatures.

    Raises:
        ValueError: it is not a URL.
    """
    return URL(url, encoded=_QUOTED.fullmatch(url) is not None)


class _PublicResolver(AbstractResolver):
    """Resolves names to public addresses only."""

    def __init__(self) -> None:
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        public = [result for result in found if is_public(result["host"])]
        if found and not public:
            raise HttpError(IMAGE_HOST_REFUSED)
        return public

    async def close(self) -> None:
        await self._resolver.close()


@cache
def _session(loop: asyncio.AbstractEventLoop, is_public_only: bool) -> aiohttp.ClientSession:
    """The process's session, which keeps connections open. Must be called in its event loop."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=_PublicResolver() if is_public_only else aiohttp.ThreadedResolver()),
        # Bodies are decompressed here, up to the limit. aiohttp would decompress any body whole.
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    atexit.register(lambda: asyncio.run_coroutine_threadsafe(session.close(), loop).result(_CLOSE_TIMEOUT_S))
    return session


@dataclass(frozen=True)
class HttpRules:
    """Where images may be fetched from."""

    schemes: frozenset[str]
    private_hosts: bool
    """Whether hosts may have private addresses."""
    known_hosts: frozenset[tuple[str | None, int | None]]
    """Hosts and ports that may have any address, because the config names them."""


@dataclass
class HttpFetcher:
    """Fetches images for one reader. Threads may share it."""

    rules: HttpRules
    _failures: Counter[str] = field(default_factory=Counter)
    """By host, consecutive images that it failed to serve."""
    _closed: threading.Event = field(default_factory=threading.Event)
    _running: set[Any] = field(default_factory=set)

    def fetch(self, url: str, most_bytes: int, is_patient: bool = False) -> bytes:
        """Fetch an image.

        Args:
            url: of the image.
            most_bytes: the largest body.
            is_patient: whether to retry failed connections too, regardless of the host's earlier failures.

        Raises:
            HttpError: the image cannot be fetched.
            TooLargeError: the body has more than `most_bytes`.
        """
        try:
            host, _ = host_and_port(url)
        except ValueError as error:
            raise HttpError(IMAGE_URL_INVALID) from error
        if not host:
            raise HttpError(IMAGE_URL_INVALID)
        pauses_s = _PAUSES_S if is_patient or self._failures[host] < _PATIENCE else ()
        for pause_s in (*pauses_s, None):
            try:
                content = self._run(url, most_bytes)
            except HttpError as error:
                is_repeated = error.is_transient or (is_patient and error.reason == IMAGE_CONNECTION_FAILED)
                if pause_s is None or not is_repeated or error.pause_s > _MAX_PAUSE_S:
                    self._failures[host] += is_repeated
                    raise
                if self._closed.wait(max(pause_s, error.pause_s)):
                    raise
            else:
                self._failures.pop(host, None)
                return content
        raise AssertionError("the last request returns or raises")

    def close(self) -> None:
        """Cancel the running requests of all threads."""
        self._closed.set()
        for request in list(self._running):
            request.cancel()

    def _run(self, url: str, most_bytes: int) -> bytes:
        """One request, in the event loop that all fsspec file systems share."""
        if self._closed.is_set():
            raise HttpError(IMAGE_CONNECTION_FAILED)
        request = asyncio.run_coroutine_threadsafe(_get(_parse(url), self.rules, most_bytes), get_loop())
        self._running.add(request)
        try:
            return request.result()
        finally:
            self._running.discard(request)


async def _get(url: URL, rules: HttpRules, most_bytes: int) -> bytes:
    """The body at a URL, through redirects."""
    for _ in range(_MAX_REDIRECTS + 1):
        with _errors_named():
            session = _session(asyncio.get_running_loop(), _is_public_only(url, rules))
            async with session.get(url, allow_redirects=False, timeout=_TIMEOUT) as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    _check_status(response)
                    return await _body(response, most_bytes)
                url = url.join(_parse(location))
    raise HttpError(IMAGE_TOO_MANY_REDIRECTS)


@contextmanager
def _errors_named() -> Iterator[None]:
    """Turn the errors of aiohttp into `HttpError`s."""
    try:
        yield
    except TimeoutError as error:
        raise HttpError(IMAGE_TIMEOUT, is_transient=True) from error
    except ValueError as error:  # yarl, and aiohttp's `InvalidURL`
        raise HttpError(IMAGE_URL_INVALID) from error
    except (aiohttp.ClientError, OSError) as error:
        # An unknown name or a refused connection is lasting; a broken connection is not.
        is_transient = not isinstance(error, aiohttp.ClientConnectorError)
        raise HttpError(IMAGE_CONNECTION_FAILED, is_transient=is_transient) from error
    except zlib.error as error:
        raise HttpError(IMAGE_UNREADABLE) from error


def _is_public_only(url: URL, rules: HttpRules) -> bool:
    """Check a URL before it is requested, and tell whether its host must have a public address."""
    if url.scheme.lower() not in rules.schemes:
        raise HttpError(IMAGE_SCHEME_REFUSED)
    if rules.private_hosts or (url.host, url.port) in rules.known_hosts:
        return False
    try:
        is_refused = not is_public(url.raw_host or "")
    except ValueError:  # a name, which the session resolves; it refuses other spellings of numbers
        is_refused = False
    if is_refused:
        raise HttpError(IMAGE_HOST_REFUSED)
    return True


def _check_status(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise HttpError(
            f"image_http_{response.status}",
            is_transient=response.status in _TRANSIENT,
            pause_s=_pause_s(response.headers.get("Retry-After", "")),
        )


def _pause_s(retry_after: str) -> float:
    """The pause that a `Retry-After` header asks for, as seconds or as a date; 0 if it cannot be parsed."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0


async def _body(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The body of a response, decompressed. Stops reading at the size limit."""
    declared_bytes = response.content_length
    if declared_bytes is not None and declared_bytes > most_bytes:
        raise TooLargeError(declared_bytes)
    is_compressed = response.headers.get("Content-Encoding", "").strip().lower() in ("gzip", "x-gzip", "deflate")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32) if is_compressed else None
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in response.content.iter_any():
            if inflater is not None:
                piece = inflater.decompress(piece, most_bytes + 1 - size)
            pieces.append(piece)
            size += len(piece)
            if size > most_bytes:
                raise TooLargeError(None)
        return b"".join(pieces)
    finally:
        pieces.clear()  # the traceback of an error refers to them until the next garbage collection
