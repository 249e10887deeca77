"""Servers of images: an HTTP server on this machine, and an fsspec file system with answers of the test's choice."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

from fsspec import AbstractFileSystem, register_implementation


@dataclass(frozen=True)
class Answer:
    """What the HTTP server answers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    is_chunked: bool = False
    """Send the body without a length, 64 KiB at a time, until the client closes the connection or it ends."""
    is_cut: bool = False
    """Announce one byte more than is sent."""


@contextmanager
def http_server(answer: Callable[[str], Answer], port: int = 0) -> Iterator[tuple[str, list[str]]]:
    """Serve on this machine, at a free port unless one is given; gives the URL and the list of requested paths."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            asked.append(self.path)
            given = answer(self.path)
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            if given.is_chunked:
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Content-Length", str(len(given.body) + given.is_cut))
            self.end_headers()
            try:
                self._send(given)
            except OSError:  # the client has enough
                self.close_connection = True

        def _send(self, given: Answer) -> None:
            if not given.is_chunked:
                self.wfile.write(given.body)
                self.close_connection = given.is_cut
                return
            for start in range(0, len(given.body), 2**16):
                piece = given.body[start : start + 2**16]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _no_answer(path: str) -> bytes:
    raise FileNotFoundError(path)


class TestStore(AbstractFileSystem):  # type: ignore[misc]
    """A file system with the protocol `teststore`: each read calls `answer` with the path."""

    __test__ = False
    protocol = "teststore"
    cachable = False
    answer: ClassVar[Callable[[str], bytes]] = _no_answer
    """Set by each test."""

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """The asked part of a file."""
        return type(self).answer(path)[start:end]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """The size of a file; a file without an answer is empty."""
        return {"name": path, "size": 0, "type": "file"}


register_implementation("teststore", TestStore, clobber=True)
