"""Write small datasets, and read all of their samples."""

import csv
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laclip_ray.config import DataConfig
from laclip_ray.data.records import Sample
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.errors import UserError
from tests.unit.conftest import write_tar


def read(data: DataConfig, with_images: bool = True) -> list[Sample]:
    return [sample for shard in list_shards(data) for sample in read_samples(shard, data, with_images)]


def captions(samples: Iterable[Sample]) -> list[str]:
    return [sample.caption for sample in samples]


def ids(samples: Iterable[Sample]) -> list[str]:
    return [sample.id for sample in samples]


def refused(data: DataConfig, setting: str = "data") -> str:
    """The error message of listing the dataset."""
    with pytest.raises(UserError) as caught:
        list_shards(data, setting)
    return str(caught.value)


def write_parquet(path: Path, columns: dict[str, Any], row_group_size: int | None = None) -> DataConfig:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return DataConfig(path=str(path))


def write_table(path: Path, kind: str, texts: list[str]) -> DataConfig:
    """Write a table with the columns `caption` and `url`."""
    rows = [(text, f"u{number}") for number, text in enumerate(texts)]
    if kind == "jsonl":
        content = "".join(json.dumps({"caption": text, "url": url}, ensure_ascii=False) + "\n" for text, url in rows)
    elif kind == "tsv":
        content = "".join(f"{text}\t{url}\n" for text, url in [("caption", "url"), *rows])
    else:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([("caption", "url"), *rows])
        content = buffer.getvalue()
    path.write_bytes(content.encode())
    return DataConfig(path=str(path))


def touch(directory: Path, *names: str) -> str:
    """Write a tar of one sample for each name; returns the directory."""
    for name in names:
        write_tar(directory / name, [("a.jpg", b"i"), ("a.txt", b"one")])
    return str(directory)
