"""`laclip data check`: read some rows of every shard, and count their contents and defects.

Threads read the shards, without Ray. Pictures of the rows are decoded whole, those on other hosts too.

Not covered: damage behind the read rows, such as the cut end of a tar.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

from laclip_ray.config import DataConfig
from laclip_ray.data.indexing import with_counts
from laclip_ray.data.left_out import describe_left_out
from laclip_ray.data.records import DUPLICATE_ID, Shard
from laclip_ray.data.shards import list_dataset, read_samples
from laclip_ray.printable import printable_line
from laclip_ray.randomness import hash64
from laclip_ray.survey.captions import CaptionCounts, PictureSizes
from laclip_ray.survey.sampling import count_caption, count_picture
from laclip_ray.tally import Tally

NAME_UNPRINTABLE = "name_unprintable"
"""Note: the name of a shard or the id of a sample holds control characters or invalid UTF-8."""
ID_IN_OTHER_SHARD = "id_in_other_shard"
"""Note: another shard has the id too. Rewrites are joined by shard and id, so both are used."""

_THREADS = 8
_SHARDS_AHEAD = 64
"""Shards that wait for a thread, or whose counts wait to be added, at most."""
_MOST_IDS = 5_000_000
"""Upper bound on ids compared between shards: each takes about 60 bytes."""


@dataclass
class ShardCheck:
    """What some rows of a shard hold."""

    name: str
    rows: int = 0
    """Read."""
    captions: CaptionCounts = field(default_factory=CaptionCounts)
    pictures: PictureSizes = field(default_factory=PictureSizes)
    problems: Tally = field(default_factory=Tally)
    ids: list[tuple[int, str]] = field(default_factory=list)
    """Each with its hash."""
    unreadable: str = ""
    """Why no row, or not all wanted ones, could be read; empty if they could."""


@dataclass
class DataCheck:
    """What some rows of all shards hold."""

    shards: int
    known_rows: int | None
    """Of all shards. None: tars do not tell it."""
    left_out: str
    """Unread files."""
    with_pictures: bool
    rows: int = 0
    captions: CaptionCounts = field(default_factory=CaptionCounts)
    pictures: PictureSizes = field(default_factory=PictureSizes)
    problems: Tally = field(default_factory=Tally)
    unreadable: dict[str, str] = field(default_factory=dict)
    """By shard, why it cannot be read."""
    _shard_of_id: dict[int, int] = field(default_factory=dict)
    _done: int = 0

    def add(self, checked: ShardCheck) -> None:
        """Add a shard."""
        self._done += 1
        self.rows += checked.rows
        self.captions.merge(checked.captions)
        self.pictures.sizes += checked.pictures.sizes
        self.problems.merge(checked.problems.counts, checked.problems.names)
        if checked.unreadable:
            self.unreadable[checked.name] = checked.unreadable
        for key, sample_id in checked.ids:
            if self._shard_of_id.get(key, self._done) != self._done:
                self.problems.add(ID_IN_OTHER_SHARD, sample_id)
            elif len(self._shard_of_id) < _MOST_IDS:
                self._shard_of_id[key] = self._done

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "shards": self.shards,
            "shards_unreadable": self.unreadable,
            "rows": self.known_rows,
            "rows_read": self.rows,
            "captions": self.captions.to_json(),
            "pictures": self.pictures.to_json(),
            "counted": dict(self.problems.counts.most_common()),
            "counted_names": self.problems.names,
            "left_out": self.left_out,
        }


def check_data(
    data: DataConfig, index: str | None, rows_per_shard: int, with_pictures: bool, on_shard: Callable[[int, int], None]
) -> DataCheck:
    """Check some rows of every shard.

    Args:
        data: the dataset.
        index: its dataset index, used if it is there.
        rows_per_shard: the first rows of a shard, this many.
        with_pictures: whether to read and decode pictures.
        on_shard: called with the number of checked shards and of all.

    Raises:
        UserError: the dataset cannot be listed; see `list_dataset`.
        OSError: the store failed while it was listed.
    """
    listing = list_dataset(data, index=index)
    shards = listing.shards
    rows = [shard.known_rows for shard in with_counts(shards)]
    known = None if None in rows else sum(count for count in rows if count is not None)
    has_pictures = with_pictures and (listing.format == "webdataset" or data.image_column is not None)
    check = DataCheck(len(shards), known, describe_left_out(listing.left_out), has_pictures)
    check_one = partial(check_shard, data=data, rows=rows_per_shard, with_pictures=has_pictures)
    waiting = iter(shards)
    done = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            while batch := list(islice(waiting, _SHARDS_AHEAD)):
                for checked in pool.map(check_one, batch):
                    check.add(checked)
                    done += 1
                    on_shard(done, len(shards))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return check


def check_shard(shard: Shard, data: DataConfig, rows: int, with_pictures: bool) -> ShardCheck:
    """Check the first rows of a shard."""
    check = ShardCheck(shard.name, unreadable=shard.defect)
    _check_name(shard.name, check)
    if shard.defect:
        return check
    try:
        for sample in islice(read_samples(shard, data, with_pictures), rows):
            check.rows += 1
            count_caption(sample, check.captions, check.problems)
            if with_pictures:
                count_picture(sample, data, check.pictures, check.problems)
            _check_name(sample.id, check)
            if DUPLICATE_ID not in sample.problems:
                check.ids.append((hash64(sample.id), sample.id))
    except OSError as error:  # the file is not what its name says, or its store failed
        check.unreadable = " ".join(f"{error}".split()) or type(error).__name__
    return check


def _check_name(name: str, check: ShardCheck) -> None:
    if "\\x" in name or printable_line(name) != name:  # listing and readers write invalid UTF-8 as \x escapes
        check.problems.add(NAME_UNPRINTABLE, name)


def figures(check: DataCheck) -> Sequence[tuple[str, str]]:
    """The counts as names and texts, for a table."""
    captions = check.captions
    words = ", ".join(f"{share:.0%} {captions.quantile(share):g}" for share in (0.1, 0.5, 0.9, 1.0))
    scripts = ", ".join(f"{name.lower()} {count / max(captions.captions, 1):.1%}"
                        for name, count in captions.scripts.most_common(6))  # fmt: skip
    known = "not known without reading them" if check.known_rows is None else f"{check.known_rows:,}"
    shown = [
        ("shards", f"{check.shards:,}"),
        ("unreadable shards", f"{len(check.unreadable):,}"),
        ("samples", known),
        ("samples read", f"{check.rows:,}"),
        ("captions", f"{captions.captions:,}"),
        ("words of a caption (quantiles)", words),
        ("captions under 3 words", f"{captions.short_share:.1%}"),
        ("captions that another sample has", f"{captions.repeated_share:.1%}"),
        ("captions by script", scripts or "none"),
    ]
    if sizes := check.pictures.to_json():
        shown += [
            ("pictures decoded", f"{sizes['pictures']:,}"),
            ("median size", f"{sizes['median_width']} x {sizes['median_height']} pixels"),
            ("smallest side", f"{sizes['smallest_side']} pixels; {sizes['share_under_224']:.1%} under 224"),
        ]
    elif check.with_pictures:
        shown.append(("pictures decoded", "0"))
    return shown
