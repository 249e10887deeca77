"""The committed shards of a rewrite set: their metadata, and a listing of their files."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from laclip_ray.data.records import Sample
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import Origin

StoredFile = tuple[str, int]
"""A shard and a revision."""


@dataclass(frozen=True)
class Committed:
    """The metadata of a committed shard."""

    revision: int
    origin: Origin
    statistics: Statistics
    digest: str
    """Digest of the draws, their verdicts and their scores."""

    def is_of(self, samples: Sequence[Sample]) -> bool:
        """Whether the draws were made from these samples, in this order."""
        return self.origin.inputs == digest_samples(samples)


@dataclass(frozen=True)
class Listed:
    """The files of a rewrite set, by one listing of its draws and one of its verdicts."""

    drawn: Mapping[str, int]
    """The newest revision of each shard that has draws."""
    committed: Mapping[str, int]
    """The newest revision of each shard that has draws and this gate's verdicts on them."""
    identities: Mapping[StoredFile, str]
    """Of the verdicts: changes with the file. Files whose store does not tell changes are missing."""


def digest_inputs(ids: Iterable[str], caption_hashes: Iterable[str]) -> str:
    """A digest of a shard's samples, in order."""
    digest = hashlib.blake2b(digest_size=8)
    for column in (ids, caption_hashes):
        digest.update("\0".join(column).encode())
        digest.update(b"\1")
    return digest.hexdigest()


def digest_samples(samples: Sequence[Sample]) -> str:
    """`digest_inputs` of samples."""
    return digest_inputs((sample.id for sample in samples), (sample.caption_hash for sample in samples))
