"""The storage of data and outputs: can it be read, written, listed, and is its clock right?

Probes of an output are files of their own, which readers skip, and are removed; so are directories made for them.
"""

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.creation import create_bytes, refuses_second_creation
from laclip_ray.data.listing import find_files
from laclip_ray.doctor.results import Finding, failed, passed, skipped
from laclip_ray.tally import Tally

MOST_SKEW_S = 60.0
"""Tolerated difference of clocks. S3 refuses requests from 15 minutes."""
_CONTENT = b"a probe of laclip doctor, which removes it\n"
_WRITE_REMEDY = "Give this user the right to write, list and delete there, or choose another output"


def separate_outputs(outputs: Mapping[str, str]) -> dict[str, str]:
    """The outputs that do not lie below another one, by config key."""
    kept: dict[str, str] = {}
    for setting, url in outputs.items():
        if not any(f"{url.rstrip('/')}/".startswith(f"{other.rstrip('/')}/") for other in kept.values()):
            kept[setting] = url
    return kept


def check_data(data: DataConfig) -> Finding:
    """Whether the data can be listed and read: lists all paths, and reads a byte of the first file."""
    left_out = Tally()
    paths = [data.path] if isinstance(data.path, str) else list(data.path)
    found = find_files(paths, "data", left_out).values()
    first = next((file for files in found for file in files), None)
    if first is None:
        return failed(f"{', '.join(paths)}: no file is there", "Correct data.path")
    fs, path = storage.filesystem(first.url)
    if not fs.cat_file(path, start=0, end=1):
        return failed(f"{first.url} is empty", "Correct data.path, or replace the file")
    return passed(f"{sum(map(len, found)):,} files listed, {first.url} can be read")


@dataclass
class Output:
    """The checks of one output, in order. After the first that fails, the others are skipped: a store that does not
    answer is asked once."""

    setting: str
    """The config key of `url`, for messages."""
    url: str
    in_ray_job: bool = False
    shared_paths: Sequence[str] = ()
    """Local directories that every node sees."""
    _passed: int = 0

    def check_place(self) -> Finding:
        """Whether results in a local directory would be found later."""
        return self._in_turn(0, lambda _: self._check_place())

    def check_writes(self) -> Finding:
        """See `check_writes`."""
        return self._in_turn(1, check_writes)

    def check_conditional_put(self) -> Finding:
        """See `check_conditional_put`."""
        return self._in_turn(2, check_conditional_put)

    def check_clock(self) -> Finding:
        """See `check_clock`."""
        return self._in_turn(2, check_clock)

    def _in_turn(self, needed: int, check: Callable[[str], Finding]) -> Finding:
        if self._passed < needed:
            return skipped(f"{self.url} cannot be used")
        found = check(self.url)
        if found.outcome != "failed":
            self._passed = max(self._passed, needed + 1)
        return found

    def _check_place(self) -> Finding:
        if not storage.is_local(self.url):
            return passed(f"{self.url}: every node sees a URL")
        storage.check_output(self.url, self.setting, self.in_ray_job, 1, list(self.shared_paths))
        return passed(self.url)


def check_writes(url: str) -> Finding:
    """Whether files in an output can be written, read, listed and deleted."""
    with _probe(url) as probe:
        storage.write_bytes(probe, _CONTENT)
        if storage.read_bytes(probe) != _CONTENT:
            return failed(f"{probe} has another content than was written", "Check the store; do not use it")
        fs, path = storage.filesystem(url)
        fs.invalidate_cache()
        if storage.name_of(probe) not in {storage.name_of(str(name)) for name in fs.ls(path, detail=False)}:
            return failed(f"{url}: its listing lacks a file that was just written", "Use a store with consistent lists")
        storage.remove(probe)
        if storage.exists(probe):
            return failed(f"{probe} was deleted, and is still there", _WRITE_REMEDY)
    return passed(f"{url}: a file was written, read, listed and deleted")


def check_conditional_put(url: str) -> Finding:
    """Whether the store refuses to create a file a second time: of two runs that start at once, one gets the output."""
    with _probe(url) as probe:
        if not create_bytes(probe, _CONTENT):
            return failed(f"{probe}: a new file is said to be there", "Check the store; do not use it")
        if not refuses_second_creation(probe, _CONTENT):
            return failed(
                f"{url}: the store ignores or refuses the condition of a put (If-None-Match)",
                "Start runs into one output one after another, or use a store with conditional puts",
            )
    return passed(f"{url}: a second put of a new file was refused")


def check_clock(url: str) -> Finding:
    """Whether the store's clock agrees with this machine's."""
    with _probe(url) as probe:
        before_s = time.time()
        storage.write_bytes(probe, _CONTENT)
        after_s = time.time()
        written_s = storage.modified_s(probe)
    skew_s = min(0.0, written_s - before_s + 1) + max(0.0, written_s - after_s - 1)  # stores round to seconds
    if abs(skew_s) <= MOST_SKEW_S:
        return passed(f"{url}: less than {MOST_SKEW_S:.0f} s apart")
    side = "ahead of" if skew_s > 0 else "behind"
    return failed(
        f"{url}: the store's clock is {abs(skew_s):,.0f} s {side} this machine's",
        "Set both clocks (NTP); S3 refuses requests from a difference of 15 minutes",
    )


@contextlib.contextmanager
def _probe(url: str) -> Iterator[str]:
    """The URL of a probe in an output; removed at the end, with the directories made for it."""
    made = _missing_directories(url)
    probe = storage.join(url, f"{storage.ASIDE_MARK}doctor-{uuid.uuid4().hex}")
    try:
        yield probe
    finally:
        with contextlib.suppress(Exception):  # the check has its result, and an unfinished file is no harm
            storage.remove(probe)
        for directory in made:
            with contextlib.suppress(OSError):
                directory.rmdir()  # only if it is empty


def _missing_directories(url: str) -> list[Path]:
    """The local directories that do not exist yet, the deepest first."""
    if not storage.is_local(url):
        return []
    path = Path(storage.filesystem(url)[1])
    return [directory for directory in (path, *path.parents) if not directory.exists()]
