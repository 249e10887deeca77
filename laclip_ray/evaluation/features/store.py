"""The feature store: what one model made of the shards and texts of evaluation sets.

    LOCATION/KEY/about.json                      the model, its transform and its arithmetic
    LOCATION/KEY/images/UNIT.00000.parquet       part 0 of a shard; the last part ends on `.last.parquet`
    LOCATION/KEY/texts/UNIT.parquet              some texts

KEY is a digest of the model's weights, its transform and its arithmetic; UNIT one of a shard's identity and how it is
read, or of texts. So a changed model, shard or setting never meets features that were made before it changed.

Not covered: nothing is removed; delete LOCATION to free the space.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import pyarrow as pa

from laclip_ray import storage

_PART = re.compile(r"([0-9a-f]+)\.(\d+)(\.last)?\.parquet")


def digest_of(*texts: str) -> str:
    """32 hexadecimal digits that identify a sequence of texts."""
    digest = sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class FeatureStore:
    """The features of one model."""

    location: str
    """Directory or URL; `LOCATION/KEY` above."""

    def images_done(self) -> dict[str, dict[int, bool]]:
        """By unit, its committed parts, and whether each is the last. One listing."""
        found: dict[str, dict[int, bool]] = {}
        for url in storage.list_files(storage.join(self.location, "images")):
            if match := _PART.fullmatch(storage.name_of(url)):
                found.setdefault(match[1], {})[int(match[2])] = match[3] is not None
        return found

    def texts_done(self) -> set[str]:
        """The committed units of texts. One listing."""
        urls = storage.list_files(storage.join(self.location, "texts"))
        return {storage.name_of(url).removesuffix(".parquet") for url in urls}

    def commit_part(self, unit: str, number: int, is_last: bool, features: pa.Table) -> None:
        """Commit a part of a shard."""
        storage.write_parquet(self._part_url(unit, number, is_last), features)

    def commit_texts(self, unit: str, features: pa.Table) -> None:
        """Commit texts."""
        storage.write_parquet(storage.join(self.location, "texts", f"{unit}.parquet"), features)

    def read_parts(self, unit: str, parts: dict[int, bool]) -> Iterator[pa.Table]:
        """The parts of a complete unit, in order."""
        for number in sorted(parts):
            yield storage.read_parquet(self._part_url(unit, number, parts[number]))

    def read_texts(self, units: Sequence[str]) -> Iterator[pa.Table]:
        """The features of some units of texts, unit by unit."""
        for unit in units:
            yield storage.read_parquet(storage.join(self.location, "texts", f"{unit}.parquet"))

    def _part_url(self, unit: str, number: int, is_last: bool) -> str:
        return storage.join(self.location, "images", f"{unit}.{number:05d}{'.last' if is_last else ''}.parquet")


def is_complete(parts: dict[int, bool]) -> bool:
    """Whether the committed parts of a unit are all that it has."""
    return any(parts.values()) and len(parts) == max(parts) + 1
