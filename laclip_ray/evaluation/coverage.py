"""The samples of an evaluation set: how many are used, how many are skipped and why, and which shards are damaged.

One sample or shard that cannot be read is counted and named. It is the end of its set only if too much is missing, or
if the storage refuses access: then the content is unknown, not missing.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from laclip_ray.data.records import SHARD_TRUNCATED, SHARD_UNREADABLE, ShardUnreadableError
from laclip_ray.tally import Tally

logger = logging.getLogger(__name__)

_NAMES_SHOWN = 3

T = TypeVar("T")


class NoResultError(Exception):
    """A set has no result; the message says why. The other sets are still measured."""


@dataclass(frozen=True)
class _DamagedShard:
    name: str
    units: int
    """Read before the damage."""
    missing: int | None
    """Unread samples. None: unknown."""


@dataclass
class Coverage:
    """How much of a set was read, and how much of this can be used.

    The unit is a labelled image, or a caption with its image.
    """

    used: int = 0
    """Measured units."""
    skipped: Tally = field(default_factory=Tally)
    """Units that cannot be measured, by reason. A damaged shard counts once, by its name."""
    _whole_shards: list[int] = field(default_factory=list)
    """Units of each completely read shard."""
    _damaged_shards: list[_DamagedShard] = field(default_factory=list)

    def skip(self, reason: str, name: str, count: int = 1) -> None:
        """Count units that cannot be measured, by the name of their sample."""
        self.skipped.merge({reason: count}, {reason: (name,)})

    def read_shard(self, name: str, samples: Iterator[T], expected: int | None = None) -> Iterator[T]:
        """Yield the samples of a shard up to its end, or up to its damaged place.

        Args:
            name: the shard.
            samples: the reader of the shard.
            expected: samples of the whole shard. None: unknown.

        Raises:
            NoResultError: the storage refuses the shard.
        """
        count, units_before = 0, self._units()
        try:
            for sample in samples:
                count += 1
                yield sample
        except NoResultError:
            raise
        except Exception as error:  # the readers of damaged files raise many kinds of errors
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError | ShardUnreadableError):
                raise NoResultError(f"the storage refuses {name}: {type(error).__name__}: {error}") from error
            logger.warning("%s cannot be read beyond sample %d: %s: %s", name, count, type(error).__name__, error)
            missing = None if expected is None else expected - count
            self._lose_shard(name, SHARD_TRUNCATED if count else SHARD_UNREADABLE, units_before, missing)
        else:
            self._whole_shards.append(self._units() - units_before)

    def _lose_shard(self, name: str, reason: str, units_before: int, missing: int | None) -> None:
        units = self._units() - units_before
        self.skipped.add(reason, name)
        self._damaged_shards.append(_DamagedShard(name, units, missing))

    def _units(self) -> int:
        """Units read, measured or not."""
        return self.used + self.skipped_units

    @property
    def skipped_units(self) -> int:
        """Units that cannot be measured, without damaged shards."""
        return self.skipped.counts.total() - len(self._damaged_shards)

    def check(self, most_skipped: float, remedy: str = "") -> None:
        """Refuse a set without usable samples, or with too few.

        Samples missing from a damaged shard are estimated: from its row count if known, else from the mean of the
        completely read shards.

        Args:
            most_skipped: `evaluate.max_skipped`.
            remedy: what to do if no unit can be used, for the message.

        Raises:
            NoResultError: no unit can be used, or the share of skipped units exceeds `most_skipped`.
        """
        if not self.used:
            raise NoResultError(f"no sample could be used{self._reasons()}" + (f"; {remedy}" if remedy else ""))
        skipped = self._not_measured()
        if skipped is None:
            if most_skipped < 1:
                names = ", ".join(shard.name for shard in self._damaged_shards[:_NAMES_SHOWN])
                raise NoResultError(
                    f"damaged shards lack an unknown number of samples ({names}); replace them, or set "
                    "evaluate.max_skipped=1 to measure the other samples"
                )
        elif skipped > most_skipped * (self.used + skipped):
            raise NoResultError(
                f"{skipped / (self.used + skipped):.1%} of the samples cannot be used{self._reasons()}, and "
                f"evaluate.max_skipped is {most_skipped:.1%}; repair them, or raise evaluate.max_skipped"
            )

    def _not_measured(self) -> float | None:
        """Units skipped, and units missing from damaged shards. None: unknown."""
        missing = 0.0
        for shard in self._damaged_shards:
            if shard.missing is not None:
                missing += max(1, shard.missing)
            elif self._whole_shards:
                missing += max(1.0, sum(self._whole_shards) / len(self._whole_shards) - shard.units)
            else:
                return None
        return self.skipped_units + missing

    def _reasons(self) -> str:
        if not self.skipped.counts:
            return ""
        parts = (
            f"{reason} {count:,}: {', '.join(self.skipped.names[reason][:_NAMES_SHOWN])}"
            for reason, count in self.skipped.counts.most_common()
        )
        return f" ({'; '.join(parts)})"
