"""A proxy between S3 clients and a plain HTTP server: it counts requests by kind and key, and injects faults.

Guarantees: every request is parsed, also those that follow each other on one connection. A burst of faults hits one
request and its repeats: the request that comes after a given number of others fails `length` times in a row.
Not covered: TLS, HTTP/2, bodies larger than memory.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

Kind = Literal["GET", "PUT", "HEAD", "LIST", "DELETE", "MULTIPART", "OTHER"]

FaultKind = Literal["reset", "lost", "unavailable", "cut", "slow"]
"""Closes the connection before the server sees the request; or after it, without the answer; answers 503; closes the
connection in the middle of a body, of the request if it has one and else of the answer; waits."""

FAULT_KINDS: tuple[FaultKind, ...] = ("reset", "lost", "unavailable", "cut", "slow")

SLOW_S = 1.5
"""The wait of a slow request."""

_UNAVAILABLE = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>'
_CHUNK_BYTES = 2**16


class Request(NamedTuple):
    """One request that reached the proxy."""

    kind: Kind
    key: str
    """Bucket and key; of a listing, bucket and prefix."""


@dataclass
class Burst:
    """Faults of one request and its repeats."""

    after: int
    """Requests that pass after the burst before."""
    kind: FaultKind
    length: int
    """Faults in a row."""
    below: str = ""
    """Only a request whose key contains this is hit."""
    method: str = ""
    """Only a request of this method is hit. Empty: any."""


def random_bursts(
    random: Random, faults: int, most_after: int, longest: int = 4, kinds: Sequence[FaultKind] = FAULT_KINDS
) -> list[Burst]:
    """Bursts of 1 to `longest` faults, `faults` in total. A slow request is not repeated, so others follow it."""
    bursts: list[Burst] = []
    while faults:
        length = min(faults, random.randint(1, longest))
        after, kind = random.randint(0, most_after), random.choice(kinds)
        bursts += [Burst(after, kind, 1)] * length if kind == "slow" else [Burst(after, kind, length)]
        faults -= length
    return bursts


class _Message(NamedTuple):
    """A request or an answer."""

    start: str
    """The first line."""
    headers: dict[str, str]
    """By lower-case name."""
    head: bytes
    """The first line and all headers, as sent, with the empty line."""
    body: bytes


@dataclass
class S3Proxy:
    """The proxy's counters and plan. It may be read and changed from any thread."""

    upstream_port: int
    port: int
    requests: list[Request] = field(default_factory=list)
    hits: Counter[str] = field(default_factory=Counter)
    """Faults injected, by kind."""
    conditions_refused_with: int | None = None
    """HTTP status of the answer to every conditional put, as of a store that does not know them. None: they pass."""
    _bursts: list[Burst] = field(default_factory=list)
    _passed: int = 0
    """Requests since the last burst began."""
    _open: dict[tuple[str, str], tuple[FaultKind, int]] = field(default_factory=dict)
    """By request, the kind and the number of the faults that its repeats will meet."""
    _recent: set[tuple[str, str]] = field(default_factory=set)
    """Requests that have not passed since their burst. No other burst hits them."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """For `AWS_ENDPOINT_URL`."""
        return f"http://127.0.0.1:{self.port}"

    def inject(self, bursts: Sequence[Burst]) -> None:
        """Replace the plan of faults."""
        with self._lock:
            self._bursts, self._passed = list(bursts), 0
            self._open.clear()
            self._recent.clear()
            self.hits.clear()

    def clear(self) -> None:
        """Inject no more faults."""
        with self._lock:
            self._bursts = []
            self._open.clear()
            self._recent.clear()

    @property
    def left(self) -> int:
        """Faults of the plan that were not injected yet."""
        with self._lock:
            return sum(burst.length for burst in self._bursts) + sum(count for _, count in self._open.values())

    def take(self) -> list[Request]:
        """The requests since the last call."""
        with self._lock:
            taken, self.requests = self.requests, []
        return taken

    def _meet(self, method: str, target: str) -> FaultKind | None:
        """Record a request, and decide its fault."""
        with self._lock:
            request = parse_request(method, target)
            self.requests.append(request)
            name = method, target
            if name in self._recent and name not in self._open:
                self._recent.discard(name)
                return None
            if name not in self._open and self._bursts:
                burst = self._bursts[0]
                if self._passed >= burst.after and burst.below in request.key and burst.method in ("", method):
                    self._open[name] = burst.kind, burst.length
                    self._recent.add(name)
                    self._bursts.pop(0)
                    self._passed = 0
                else:
                    self._passed += 1
            if name not in self._open:
                return None
            kind, count = self._open.pop(name)
            if count > 1:
                self._open[name] = kind, count - 1
            self.hits[kind] += 1
            return kind

    async def serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            while (request := await _read_message(reader, writer)) is not None:
                method, target, _ = request.start.split(" ", 2)
                fault = self._meet(method, target)
                if self.conditions_refused_with and "if-none-match" in request.headers:
                    writer.write(_refusal(self.conditions_refused_with))
                    await writer.drain()
                    continue
                if fault == "slow":
                    await asyncio.sleep(SLOW_S)
                elif fault == "reset":
                    return
                elif fault == "unavailable":
                    length = len(_UNAVAILABLE)
                    head = f"HTTP/1.1 503 Slow Down\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode()
                    writer.write(head + (b"" if method == "HEAD" else _UNAVAILABLE))
                    await writer.drain()
                    writer.close()
                    return
                if upstream is None:
                    upstream = await asyncio.open_connection("127.0.0.1", self.upstream_port)
                upstream_reader, upstream_writer = upstream
                if fault == "cut" and request.body:
                    upstream_writer.write(request.head + request.body[: len(request.body) // 2])
                    await upstream_writer.drain()
                    return
                upstream_writer.write(request.head + request.body)
                await upstream_writer.drain()
                answer = await _read_message(upstream_reader, None, answers=method)
                if answer is None or fault == "lost":
                    return
                content = answer.head + answer.body
                if fault == "cut":
                    writer.write(content[: len(answer.head) + len(answer.body) // 2] if answer.body else content[:10])
                    await writer.drain()
                    await asyncio.sleep(0.02)  # an abort drops what is not sent
                    return
                writer.write(content)
                await writer.drain()
                if "close" in answer.headers.get("connection", "").lower():
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # a side closed the connection, or the proxy stops
        finally:
            if upstream is not None:
                upstream[1].transport.abort()
            if not writer.is_closing():
                writer.transport.abort()


def _refusal(status: int) -> bytes:
    body = b'<?xml version="1.0"?><Error><Code>NotImplemented</Code><Message>No conditions</Message></Error>'
    return f"HTTP/1.1 {status} Refused\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def parse_request(method: str, target: str) -> Request:
    """What a request asks for.

    >>> parse_request("GET", "/bucket?list-type=2&prefix=a%2F")
    Request(kind='LIST', key='bucket/a/')
    >>> parse_request("PUT", "/bucket/a/b?partNumber=1&uploadId=2")
    Request(kind='MULTIPART', key='bucket/a/b')
    """
    parts = urlsplit(target)
    query, key = dict(parse_qsl(parts.query, keep_blank_values=True)), unquote(parts.path).strip("/")
    if {"uploads", "uploadId"} & query.keys():
        return Request("MULTIPART", key)
    if method == "GET" and "/" not in key:
        return Request("LIST", f"{key}/{query.get('prefix', '')}")
    kinds: dict[str, Kind] = {"GET": "GET", "PUT": "PUT", "HEAD": "HEAD", "DELETE": "DELETE"}
    return Request(kinds.get(method, "OTHER"), key)


async def _read_message(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, answers: str = ""
) -> _Message | None:
    """Read a request or an answer; None at the end of the connection.

    Args:
        reader: the connection.
        writer: of a client, who may wait for permission to send a body.
        answers: of an answer, the request's method.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    start, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if writer is not None and "expect" in headers:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        kept = [start, *(line for line in lines if not line.lower().startswith("expect:"))]
        head = ("\r\n".join(kept) + "\r\n\r\n").encode("latin-1")
    has_no_body = answers == "HEAD" or (answers and start.split(" ")[1] in ("204", "304"))
    if has_no_body:
        return _Message(start, headers, head, b"")
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _Message(start, headers, head, await _read_chunks(reader))
    return _Message(start, headers, head, await reader.readexactly(int(headers.get("content-length", 0))))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A chunked body, as sent."""
    parts = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        parts += [line, await reader.readexactly(size + 2)]
        if not size:
            return b"".join(parts)


@contextmanager
def s3_proxy(upstream_port: int, port: int = 0) -> Iterator[S3Proxy]:
    """Run a proxy in a thread of its own while the context lasts.

    Args:
        upstream_port: of the server, on this machine.
        port: where the proxy listens; 0: at any free port.
    """
    proxy = S3Proxy(upstream_port, port)
    loop = asyncio.new_event_loop()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(proxy.serve_client, "127.0.0.1", port, limit=_CHUNK_BYTES, backlog=512)

    server = loop.run_until_complete(start())
    proxy.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever, daemon=True, name="s3-proxy")
    thread.start()
    try:
        yield proxy
    finally:
        asyncio.run_coroutine_threadsafe(_stop(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(server: asyncio.Server) -> None:
    server.close()
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
