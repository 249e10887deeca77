"""The files of an export: one Parquet file, line-aligned texts (`line_files`), or WebDataset tars.

**WebDataset**: open_clip's main branch takes the caption from string fields of a sample's json member.
`--json-text-key A;B;C` names the fields, and `--json-text-key-probs` draws their order; the first non-empty field wins
(`JsonCaptionExtractor` in its `open_clip_train/data.py`). The release that this project trains with (3.3) has neither
option: it reads the txt member, which an export copies unchanged.

Guarantees: each file appears whole.
"""

import contextlib
import csv
import io
import json
import posixpath
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.data.records import Sample
from laclip_ray.data.webdataset import tar_groups
from laclip_ray.rewriting.transfer.line_files import CAPTIONS_FILE, clean_line, file_names, join_lines

ORIGINAL_CAPTION_KEY = "original_caption"
"""The json field of the caption in an exported WebDataset; `rewrite_key` names the rewrites' fields."""
ID_COLUMNS = ("shard", "id", "caption_hash", "caption")


@dataclass
class ExportResult:
    """How an export ended."""

    output: str
    sets: dict[str, int]
    """The number of accepted rewrites of each set."""
    files: list[str] = field(default_factory=list)
    shards: int = 0
    samples: int = 0
    samples_without: int = 0
    """Samples with no accepted rewrite in any set."""
    not_committed: list[str] = field(default_factory=list)
    """Shards left out (`partial` only)."""
    changed: list[str] = field(default_factory=list)
    """Shards whose rows have changed since they were rewritten (`partial` only)."""
    changed_samples: int = 0
    """Samples that no set knows, because their id or caption is new."""
    json_keys: list[str] = field(default_factory=list)
    """WebDataset: the fields with texts in each sample's json member, the caption's first."""
    json_replaced: int = 0
    """WebDataset: json members that held no JSON object and were replaced by one."""
    truncated: list[str] = field(default_factory=list)
    """WebDataset: tars that end in the middle; their whole samples were copied."""


@dataclass(frozen=True)
class RewrittenShard:
    """A shard and its accepted rewrites."""

    name: str
    url: str
    samples: list[Sample]
    rewrites: dict[str, list[list[str]]]
    """By set, for each sample."""


def rewrite_key(name: str, slot: int, slots: int) -> str:
    """The json field of a set's rewrite in an exported WebDataset.

    >>> rewrite_key("cleaned", 0, slots=1), rewrite_key("cleaned", 1, slots=2)
    ('rewrite_cleaned', 'rewrite_cleaned_1')
    """
    return f"rewrite_{name}" if slots == 1 else f"rewrite_{name}_{slot}"


@contextlib.contextmanager
def _whole_file(url: str) -> Iterator[Path]:
    """A local path to write to; its content becomes the file `url` unless an error is raised."""
    with contextlib.ExitStack() as stack:
        if storage.is_local(url):
            target = Path(url.removeprefix("file://"))
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f"{target.name}{storage.ASIDE_MARK}{uuid.uuid4().hex}")
            stack.callback(aside.unlink, missing_ok=True)
            yield aside
            aside.replace(target)
        else:
            aside = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "file"
            yield aside
            fs, path = storage.filesystem(url)
            fs.put_file(str(aside), path)


def write_parquet(
    output: str, shards: Iterator[RewrittenShard], slots: Mapping[str, int], result: ExportResult
) -> None:
    """Write one Parquet file: a row per sample, a row group per shard, a list column per set.

    Args:
        output: the file.
        shards: the shards, in order.
        slots: the largest number of rewrites per sample, by set.
        result: the written files are added to it.
    """
    schema = pa.schema(
        [
            *(pa.field(name, pa.string(), nullable=False) for name in ID_COLUMNS),
            *(pa.field(name, pa.list_(pa.string()), nullable=False) for name in slots),
        ]
    )
    with _whole_file(output) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for shard in shards:
            columns = [
                [shard.name] * len(shard.samples),
                [sample.id for sample in shard.samples],
                [sample.caption_hash for sample in shard.samples],
                [sample.caption for sample in shard.samples],
                *(shard.rewrites[name] for name in slots),
            ]
            arrays = [pa.array(column, column_field.type) for column, column_field in zip(columns, schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))
    result.files.append(output)


def write_text(output: str, shards: Iterator[RewrittenShard], slots: Mapping[str, int], result: ExportResult) -> None:
    """Write a CSV of ids and captions, and a text file per set and slot; arguments as in `write_parquet`.

    A line is empty if the sample has no rewrite in that slot.
    """
    with contextlib.ExitStack() as stack:

        def create(file_name: str) -> io.TextIOBase:
            url = storage.join(output, file_name)
            path = stack.enter_context(_whole_file(url))
            result.files.append(url)
            return stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))

        captions = csv.writer(create(CAPTIONS_FILE), lineterminator="\n")  # entered first, so it appears last
        files = {name: [create(file_name) for file_name in file_names(name, count)] for name, count in slots.items()}
        for shard in shards:
            captions.writerows((sample.id, join_lines(sample.caption)) for sample in shard.samples)
            for name, files_of_set in files.items():
                for slot, file in enumerate(files_of_set):
                    lines = (clean_line(texts[slot]) if slot < len(texts) else "" for texts in shard.rewrites[name])
                    file.writelines(line + "\n" for line in lines)


def write_webdataset(
    output: str, shards: Iterator[RewrittenShard], slots: Mapping[str, int], result: ExportResult
) -> None:
    """Copy the data's tars, with the texts in each sample's json member; arguments as in `write_parquet`."""
    keys = {name: [rewrite_key(name, slot, count) for slot in range(count)] for name, count in slots.items()}
    result.json_keys = [ORIGINAL_CAPTION_KEY, *(key for keys_of_set in keys.values() for key in keys_of_set)]
    sizes: dict[str, dict[str, int]] = {}
    for shard in shards:
        url = storage.join(output, shard.name)
        copied = _copy_tar(shard, url, keys, result)
        result.files.append(url)
        sizes.setdefault(posixpath.dirname(shard.name), {})[posixpath.basename(shard.name)] = copied
    for directory, counts in sizes.items():  # open_clip reads the number of samples from these files
        storage.write_json(storage.join(output, *filter(None, [directory]), "sizes.json"), counts)


def _copy_tar(shard: RewrittenShard, url: str, keys: Mapping[str, Sequence[str]], result: ExportResult) -> int:
    """Copy a shard's tar to `url` with its texts in the json members; returns the number of samples copied."""
    fs, path = storage.filesystem(shard.url)
    copied = 0
    with _whole_file(url) as aside, fs.open(path, "rb") as source, tarfile.open(aside, "w") as tar:
        try:
            # Row n is group n, except for the row that reports a truncated tar: it has no group.
            for row, (key, members) in enumerate(tar_groups(source, with_images=True)):
                fields, is_object = _json_fields(members.get("json"))
                result.json_replaced += not is_object
                fields = {name: value for name, value in fields.items() if name not in result.json_keys}
                content = json.dumps({**fields, **_texts_of(shard, row, keys)}, ensure_ascii=False).encode()
                for extension, member in {**members, "json": content}.items():
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(member or b"")
                    tar.addfile(info, io.BytesIO(member or b""))
                copied += 1
        except (tarfile.TarError, EOFError):
            result.truncated.append(shard.name)
    return copied


def _json_fields(content: bytes | None) -> tuple[dict[str, Any], bool]:
    """The fields of a json member, and whether it is a JSON object (or missing)."""
    if content is None:
        return {}, True
    try:
        fields = json.loads(content)
    except ValueError:
        fields = None
    return (fields, True) if isinstance(fields, dict) else ({}, False)


def _texts_of(shard: RewrittenShard, row: int, keys: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The json fields of a sample's texts. A missing rewrite has no field, so open_clip never draws it."""
    texts = {ORIGINAL_CAPTION_KEY: shard.samples[row].caption}
    for name, keys_of_set in keys.items():
        texts.update(zip(keys_of_set, shard.rewrites[name][row], strict=False))
    return {key: text for key, text in texts.items() if text}
