"""Figures of very many shards on S3: listing them, and starting again where all are committed.

The server lists names of objects that do not exist (`names_server`), so that 100,000 shards fit on any machine.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests
import s3fs

from laclip_ray.config import DataConfig
from laclip_ray.data.indexing import make_index
from laclip_ray.data.shards import list_dataset
from laclip_ray.rewriting.storing.committed import Committed, CommittedTable
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import Origin
from tests.figures.figure import Figure
from tests.figures.names_server import BUCKET, COUNTS_PATH
from tests.integration.procedures import REPOSITORY, child_environment

COUNTS = (1_000, 10_000, 100_000)
MOST = 1_000_000
"""Listed, and not started over."""

_START_CPU_S = 15.0
"""Bar of a start over 100,000 committed shards. Its time depends on what else the machine does."""
_INDEX = f"s3://{BUCKET}/out/data-index.parquet"
_HELD_BYTES = 200
"""Bar of the driver's memory for each of a million listed shards, at its peak."""


def listing(show: int) -> Iterator[Figure]:
    """List a dataset, with an index and without, and find what is committed of it, for each number of shards."""
    cpu_of_a_shard: dict[int, float] = {}
    for count in COUNTS:
        with _server(count) as url:
            for task, what in (("list", "listing"), ("index", ""), ("list", "listing with an index,"), ("commit", ""),
                               ("resume", "a start with all committed,")):  # fmt: skip
                before = _requests(url)
                found = _measured(task, url)
                count_of = sum(_requests(url).values()) - sum(before.values())
                if not what:
                    continue
                most = 20 * max(1, count // 10_000) if task == "list" else None
                yield from _figures(show, f"{what} {count:,} shards", count, count_of, found, most)
                if what == "listing":
                    cpu_of_a_shard[count] = found["cpu_s"] / count
                if task == "resume" and count == COUNTS[-1]:
                    yield Figure(show, f"{what} {count:,} shards: CPU", found["cpu_s"], "s", at_most=_START_CPU_S)
    ratio = cpu_of_a_shard[COUNTS[-1]] / cpu_of_a_shard[COUNTS[0]]
    yield Figure(show, f"CPU a shard of {COUNTS[-1]:,} over that of {COUNTS[0]:,}", ratio, "ratio", at_most=1.3)
    with _server(MOST, "data/") as url:
        found = _measured("list", url)
        yield from _figures(show, f"listing {MOST:,} shards", MOST, sum(_requests(url).values()), found, None)
        held = 1024 * found["kib"] / MOST
        yield Figure(show, f"memory of each of {MOST:,} listed shards", held, "bytes", at_most=_HELD_BYTES)


def _figures(
    show: int, what: str, count: int, requests_made: int, found: dict[str, Any], most_requests: int | None
) -> Iterator[Figure]:
    assert found["shards"] == count
    yield Figure(show, f"{what}: requests", requests_made, "requests", at_most=most_requests)
    yield Figure(show, f"{what}: time", found["seconds"], "s")
    yield Figure(show, f"{what}: CPU a shard", 1e6 * found["cpu_s"] / count, "us")
    yield Figure(show, f"{what}: memory a shard", 1024 * found["kib"] / count, "bytes")


@contextmanager
def _server(count: int, *prefixes: str) -> Iterator[str]:
    environment = {**child_environment(), "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.figures.names_server", str(count), *prefixes],
        cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()


def _requests(url: str) -> dict[str, int]:
    counts: dict[str, int] = requests.get(url + COUNTS_PATH, timeout=60).json()
    return counts


def _measured(task: str, url: str) -> dict[str, Any]:
    """Do a task in a process of its own, so that nothing is cached."""
    variables = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_ENDPOINT_URL": url}
    variables["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"  # the server takes no chunks with checksums
    done = subprocess.run(
        [sys.executable, "-m", "tests.figures.clusters_listing", task],
        cwd=REPOSITORY, env={**child_environment(), **variables}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _list() -> int:
    return len(list_dataset(DataConfig(path=f"s3://{BUCKET}/data"), index=_INDEX).shards)


def _index() -> int:
    """Make the index; no shard has statistics beside it."""
    return make_index(DataConfig(path=f"s3://{BUCKET}/data"), _INDEX).shards


def _resume() -> int:
    return len(RewriteSet(f"s3://{BUCKET}/set", "gate").committed())


def _commit() -> int:
    """Write the register of shards that were never rewritten."""
    rewrite_set = RewriteSet(f"s3://{BUCKET}/set", "gate")
    listed = rewrite_set.listed()
    reading = {"caption_column": "caption", "captions": "first", "format": "webdataset", "id_column": None}
    origin = Origin("172000000-etag", "0123456789abcdef", 1, 12.5, 12.5, "0" * 32, reading)
    statistics = Statistics(captions=10_000, accepted=9_000)
    committed = CommittedTable.of(
        {shard: Committed(0, origin, statistics, "0123456789abcdef") for shard in listed.committed}
    )
    rewrite_set.save_register(committed, listed)
    return len(committed)


def _main() -> None:
    task: Callable[[], int] = {"list": _list, "index": _index, "commit": _commit, "resume": _resume}[sys.argv[1]]
    s3fs.S3FileSystem().exists(f"{BUCKET}/none")  # the client's own start is not measured
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    shards = task()
    found = {
        "shards": shards,
        "seconds": time.monotonic() - started_s,
        "cpu_s": time.process_time() - started_cpu_s,
        "kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
