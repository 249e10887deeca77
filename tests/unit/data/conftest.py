"""A small stream spec, and its rows in comparable form."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from laclip_ray.config import DataConfig, StreamConfig
from laclip_ray.data import records
from laclip_ray.data.entries import Batch, StreamSpec
from laclip_ray.data.image_formats import IMAGE_UNREADABLE
from laclip_ray.data.records import hash_caption
from laclip_ray.data.schedule import Schedule
from laclip_ray.data.shards import list_shards
from laclip_ray.data.text_choice import Rewrites, ShardRewrites, TextPolicy
from laclip_ray.data.tokens import TokenizerSpec
from tests.unit.conftest import SMALL, picture, write_tar

TOKENIZER = TokenizerSpec(None, 16, None)
USABLE = [0, 1, 3, 4, 6, 7, 8, 10]
SKIPPED = {2: IMAGE_UNREADABLE, 5: records.CAPTION_MISSING, 9: records.IMAGE_MISSING, 11: records.CAPTION_EMPTY}
ROWS = 12


@dataclass(frozen=True)
class Lookup:
    """A `RewriteLookup` that holds its rewrites in memory."""

    texts_by_shard: Mapping[str, Mapping[tuple[str, str], Sequence[str]]]

    def rewrites(self, shard_name: str) -> ShardRewrites | None:
        texts_by_sample = self.texts_by_shard.get(shard_name)
        if texts_by_sample is None:
            return None
        return ShardRewrites({key: Rewrites(texts) for key, texts in texts_by_sample.items()})


def policy(p: float) -> TextPolicy:
    return TextPolicy("sample", 1, p, p, 1)


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> StreamSpec:
    """One shard of twelve rows, four of them unusable, over three epochs."""
    members: list[tuple[str, bytes]] = []
    for row in range(ROWS):
        image = picture(width=24 + row)
        if SKIPPED.get(row) != records.IMAGE_MISSING:
            members.append((f"k{row}.png", b"broken" if row == 2 else image))
        if SKIPPED.get(row) != records.CAPTION_MISSING:
            members.append((f"k{row}.txt", b" " if row == 11 else b"caption %d" % row))
    path = write_tar(tmp_path_factory.mktemp("stream") / "0.tar", members)
    data = DataConfig(path=str(path))
    accepted = {
        (f"k{row}", hash_caption(f"caption {row}")): [f"rewrite {row} {slot}" for slot in range(row % 3)]
        for row in range(ROWS)
        if row != 8
    }
    return StreamSpec(
        data=data,
        stream=StreamConfig(rows_per_block=3),
        shards=tuple(list_shards(data)),
        schedule=Schedule(1, 3, 5),
        rewrites=Lookup({"0.tar": accepted}),
        text=policy(0.6),
        seed=5,
        image=SMALL,
        tokenizer=TOKENIZER,
        dealt_rows=4,
    )


@dataclass(frozen=True)
class Row:
    """One row of a batch."""

    row: int
    row_count: int
    image: bytes
    tokens: tuple[int, ...]
    shown: int
    skipped: tuple[tuple[int, str, str], ...]


def rows_of(batches: Iterable[Batch]) -> list[Row]:
    rows = []
    for batch in batches:
        for number in range(len(batch["row"])):
            skipped = json.loads(batch["skipped"][number]) if batch["skipped"][number] else []
            rows.append(
                Row(
                    int(batch["row"][number]),
                    int(batch["row_count"][number]),
                    batch["image"][number].tobytes(),
                    tuple(batch["tokens"][number, 0].tolist()),
                    int(batch["shown_text"][number]),
                    tuple(tuple(skipped_row) for skipped_row in skipped),
                )
            )
    return rows


def content(row: Row) -> tuple[Any, ...]:
    return row.row, row.image, row.tokens, row.shown
