"""The age of a file by the clock of its store: clocks of hosts may differ from it."""

import os
import tempfile
import time
import uuid
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from laclip_ray import storage


@dataclass(frozen=True)
class Times:
    """When a file was last written, and the present."""

    modified_s: float
    now_s: float
    is_of_store: bool = True
    """Whether the store's clock says both. If it cannot be asked, this machine's says the present."""

    @property
    def age_s(self) -> float:
        """Seconds since the last write."""
        return max(0.0, self.now_s - self.modified_s)


def times_of(url: str) -> Times | None:
    """The times of a file; None if it does not exist.

    Asks S3 by one request. Other stores are asked by a small file, which is removed at once.
    """
    fs, path = storage.filesystem(url)
    try:
        if storage.is_local(url):
            return _local_times(Path(path))
        return _s3_times(fs, path) if hasattr(fs, "call_s3") else _probed_times(url)
    except FileNotFoundError:
        return None


def _local_times(path: Path) -> Times:
    modified_s = path.stat().st_mtime
    try:
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as probe:  # without a name, where the system can
            probe.write(b"now\n")
            return Times(modified_s, os.fstat(probe.fileno()).st_mtime)
    except OSError:
        return Times(modified_s, time.time(), is_of_store=False)


def _s3_times(fs: Any, path: str) -> Times:
    bucket, key, _ = fs.split_path(path)
    answer = fs.call_s3("head_object", Bucket=bucket, Key=key)
    modified_s = answer["LastModified"].timestamp()
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        return Times(modified_s, time.time(), is_of_store=False)
    return Times(modified_s, parsedate_to_datetime(date).timestamp())


def _probed_times(url: str) -> Times:
    modified_s = storage.modified_s(url)
    probe = f"{url}{storage.ASIDE_MARK}{uuid.uuid4().hex}"
    try:
        storage.write_bytes(probe, b"now\n")
        now_s = storage.modified_s(probe)
        storage.remove(probe)
        return Times(modified_s, now_s)
    except Exception:  # noqa: BLE001 - file systems raise many types, such as for a store that may only be read
        return Times(modified_s, time.time(), is_of_store=False)
