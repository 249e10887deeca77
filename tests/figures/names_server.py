"""An S3 server of names alone: it lists any number of objects that nobody had to write.

    python -m tests.figures.names_server COUNT [PREFIX...]    # prints its port, and answers until it is ended

The bucket `names` has COUNT objects below each prefix; without any, below each of `PREFIXES`. What is put there is kept
and listed, too. `/-/requests` gives the number of requests by kind. Signatures are not checked.
"""

import bisect
import json
import sys
from collections import Counter
from collections.abc import Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "names"
PREFIXES = {
    "data/": "{:07d}.tar",
    "set/draws/0/": "{:07d}.tar.parquet",
    "set/verdicts/gate/0/": "{:07d}.tar.parquet",
}
"""Where the objects are, and how they are named by number."""
SIZE_BYTES = 172_000_000
COUNTS_PATH = "/-/requests"

_PAGE = 1_000
_TIME = "2026-01-01T00:00:00.000Z"


class Names(ThreadingHTTPServer):
    """The server and its objects."""

    daemon_threads = True

    def __init__(self, count: int, prefixes: Collection[str] = tuple(PREFIXES)) -> None:
        """Answer at a free port of this machine.

        Args:
            count: objects below each prefix.
            prefixes: some of `PREFIXES`.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self.count = count
        self.keys = sorted(f"{prefix}{PREFIXES[prefix].format(n)}" for prefix in prefixes for n in range(count))
        self.contents: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()

    def put(self, key: str, content: bytes) -> None:
        """Keep an object."""
        self.contents[key] = content
        place = bisect.bisect_left(self.keys, key)
        if self.keys[place : place + 1] != [key]:
            self.keys.insert(place, key)

    def has(self, key: str) -> bool:
        """Whether there is an object of this name."""
        place = bisect.bisect_left(self.keys, key)
        return self.keys[place : place + 1] == [key]

    def listed(self, prefix: str, start: str, limit: int, delimiter: str) -> tuple[list[str], list[str], str]:
        """A page of a listing: keys, common prefixes, and where the next page starts (empty: nowhere)."""
        keys: list[str] = []
        common: list[str] = []
        place = bisect.bisect_left(self.keys, max(prefix, start))
        while place < len(self.keys) and self.keys[place].startswith(prefix):
            key = self.keys[place]
            if len(keys) + len(common) == limit:
                return keys, common, key
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            if end >= 0:
                common.append(key[: end + 1])
                place = bisect.bisect_left(self.keys, f"{key[:end]}{chr(ord(delimiter) + 1)}")
            else:
                keys.append(key)
                place += 1
        return keys, common, ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Names

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if url.path == COUNTS_PATH:
            self._answer(200, json.dumps(self.server.requests).encode())
        elif "list-type" in query:
            self.server.requests["list"] += 1
            self._answer(200, self._listing(query).encode())
        else:
            self.server.requests["get"] += 1
            content = self.server.contents.get(self._key())
            if content is None:
                self._answer(404, b"")
            elif "Range" in self.headers:
                first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
                self._answer(206, content[int(first) : int(last) + 1])
            else:
                self._answer(200, content)

    def do_HEAD(self) -> None:
        self.server.requests["head"] += 1
        key = self._key()
        if not self.server.has(key):
            self._answer(404, b"")
            return
        self._answer(200, b"", self._size(key), key)

    def do_PUT(self) -> None:
        self.server.requests["put"] += 1
        self.server.put(self._key(), self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(200, b"")

    def _size(self, key: str) -> int:
        content = self.server.contents.get(key)
        return SIZE_BYTES if content is None else len(content)

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).partition(f"/{BUCKET}/")[2]

    def _listing(self, query: dict[str, str]) -> str:
        limit = min(_PAGE, int(query.get("max-keys", _PAGE)))
        start = query.get("continuation-token", "")
        keys, common, following = self.server.listed(query.get("prefix", ""), start, limit, query.get("delimiter", ""))
        objects = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_TIME}</LastModified><ETag>&quot;{_etag(key)}&quot;</ETag>"
            f"<Size>{self._size(key)}</Size></Contents>"
            for key in keys
        )
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in common)
        token = f"<NextContinuationToken>{escape(following)}</NextContinuationToken>" if following else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(bool(following)).lower()}</IsTruncated>{token}{objects}{prefixes}</ListBucketResult>"
        )

    def _answer(self, status: int, content: bytes, size: int | None = None, key: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if size is None else size))
        self.send_header("Content-Type", "application/xml")
        self.send_header("ETag", f'"{_etag(key)}"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(content)


def _etag(key: str) -> str:
    return f"{hash(key) & (2**64 - 1):016x}"


if __name__ == "__main__":
    server = Names(int(sys.argv[1]), sys.argv[2:] or tuple(PREFIXES))
    print(server.server_address[1], flush=True)
    server.serve_forever()
