"""Rewrite sets to the files that others read: one Parquet file, line-aligned texts, WebDataset tars."""

import contextlib
import csv
import io
import json
import posixpath
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.config import Experiment, ExportTarget
from laclip_ray.data.records import Sample, Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.webdataset import tar_groups
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.import_texts import _LINE_BREAKS, _NAMED, _NUMBERED, CAPTIONS_FILE, _one_line
from laclip_ray.rewriting.inspection import rows_changed
from laclip_ray.rewriting.sets import SetSelection, readable_sets
from laclip_ray.rewriting.store import Committed, RewriteSet

ORIGINAL_CAPTION_KEY = "original_caption"
"""The json field of the caption in an exported WebDataset; the rewrites' are named by `rewrite_key`."""

_ID_COLUMNS = ("shard", "id", "caption_hash", "caption")


@dataclass
class Exported:
    """What an export wrote."""

    output: str
    sets: dict[str, int]
    """By set, the accepted rewrites."""
    files: list[str] = field(default_factory=list)
    shards: int = 0
    samples: int = 0
    samples_without: int = 0
    """Samples with no accepted rewrite in any set."""
    not_committed: list[str] = field(default_factory=list)
    """Shards left out (`partial` only)."""
    changed: list[str] = field(default_factory=list)
    """Shards whose rows are no longer those that were rewritten (`partial` only)."""
    changed_samples: int = 0
    """Their samples that no set has rewrites for, since id or caption are new."""
    json_keys: list[str] = field(default_factory=list)
    """WebDataset: the fields with texts in each sample's json member, the caption's first."""
    json_replaced: int = 0
    """WebDataset: json members that held no JSON object, and do now."""
    truncated: list[str] = field(default_factory=list)
    """WebDataset: tars that end in the middle; what they hold was copied."""


@dataclass(frozen=True)
class _Part:
    """A shard and its accepted rewrites."""

    shard: Shard
    samples: list[Sample]
    rewrites: dict[str, list[list[str]]]
    """By set, for each sample."""


def export_rewrites(experiment: Experiment, output: str, target: ExportTarget, partial: bool = False) -> Exported:
    """Write the accepted rewrites of an experiment's sets beside their captions.

    Args:
        experiment: says which data and which sets (`text.rewrites`, else those of `rewrite.prompt_sets`).
        output: what is made: a file for `parquet`, else a directory; local or any fsspec URL.
        target: `parquet` (one file, a row a sample, a list column a set), `text` (what `import_rewrites` reads), or
            `webdataset` (the data's tars, with the texts in each sample's json member).
        partial: leave out shards that are not committed by every set, and take changed ones as far as they match.

    Raises:
        UserError: the output exists, a set does not, or the data is not of the kind that is asked for.
        IncompleteError: shards are not committed, or have changed, and `partial` is not set.
    """
    sets = readable_sets(SetSelection.of(experiment))
    _check_export(sets, output, target)
    shards = list_shards(experiment.data)
    if target == "webdataset" and shards[0].format != "webdataset":
        raise UserError(f"data.path: a WebDataset is made from WebDataset tars only, not from {shards[0].format}")
    known = {each.name: each.describe(each.committed_revisions()) for each in sets}
    exported = Exported(output, dict.fromkeys(known, 0))
    exported.not_committed = [shard.name for shard in shards if any(shard.name not in each for each in known.values())]
    if exported.not_committed and not partial:
        raise IncompleteError(
            f"{len(exported.not_committed)} of {len(shards)} shards are not committed by every set "
            f"({_some(exported.not_committed)}); finish with `laclip rewrite`, or leave them out with --partial"
        )
    taken = [shard for shard in shards if shard.name not in set(exported.not_committed)]
    exported.changed = _changed_shards(taken, known, experiment)
    if exported.changed and not partial:
        raise _changed_error(exported.changed)
    parts = _join(taken, sets, known, experiment, exported, partial)
    widths = {
        name: max((each.origin.rewrites_per_set for each in committed.values()), default=1)
        for name, committed in known.items()
    }
    write: Callable[[str, Iterator[_Part], Mapping[str, int], Exported], None] = {
        "parquet": _write_parquet,
        "text": _write_text,
        "webdataset": _write_webdataset,
    }[target]
    write(output, parts, widths, exported)
    return exported


def rewrite_key(name: str, number: int, width: int) -> str:
    """The json field of a set's rewrite in an exported WebDataset."""
    return f"rewrite_{name}" if width == 1 else f"rewrite_{name}_{number}"


def _check_export(sets: Sequence[RewriteSet], output: str, target: ExportTarget) -> None:
    if storage.exists(output) and (not storage.is_directory(output) or storage.list_files(output)):
        raise UserError(f"{output} exists already; choose another place")
    if target == "parquet":
        if storage.is_directory(output):
            raise UserError(f"{output} is a directory; one Parquet file is written, give its name")
        if taken := [each.name for each in sets if each.name in _ID_COLUMNS]:
            raise UserError(f"a set named {taken[0]!r} cannot be a column beside {', '.join(_ID_COLUMNS)}")


def _some(names: Collection[str]) -> str:
    return ", ".join(list(names)[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def _changed_error(changed: Sequence[str]) -> IncompleteError:
    return IncompleteError(
        f"the rows of {len(changed)} shards have changed since they were rewritten ({_some(changed)}); "
        "`laclip rewrite` (or `laclip rewrites import`) does what is new, --partial takes what still matches"
    )


def _changed_shards(
    shards: Sequence[Shard], known: Mapping[str, Mapping[str, Committed]], experiment: Experiment
) -> list[str]:
    """The shards whose file has been replaced since, by other rows."""
    changed = []
    for shard in shards:
        committed = [each[shard.name] for each in known.values()]
        if any(each.origin.file_identity != shard.file_identity for each in committed):
            samples = list(read_samples(shard, experiment.data, with_images=False))
            if any(rows_changed(samples, each) for each in committed):
                changed.append(shard.name)
    return changed


def _join(
    shards: Sequence[Shard],
    sets: Sequence[RewriteSet],
    known: Mapping[str, Mapping[str, Committed]],
    experiment: Experiment,
    exported: Exported,
    partial: bool,
) -> Iterator[_Part]:
    """Each shard with its rewrites, counted as it passes."""
    for shard in shards:
        samples = list(read_samples(shard, experiment.data, with_images=False))
        changed = any(rows_changed(samples, each[shard.name]) for each in known.values())
        if changed and shard.name not in exported.changed:  # its file looked the same
            exported.changed.append(shard.name)
            if not partial:
                raise _changed_error([shard.name])
        keys = [(sample.id, sample.caption_hash) for sample in samples]
        rewrites: dict[str, list[list[str]]] = {}
        unknown = set(keys)
        for each in sets:
            accepted = each.accepted(shard.name) or {}
            unknown.difference_update(accepted)
            rewrites[each.name] = [accepted.get(key, []) for key in keys]
            exported.sets[each.name] += sum(map(len, rewrites[each.name]))
        exported.changed_samples += len(unknown)
        exported.shards += 1
        exported.samples += len(samples)
        exported.samples_without += sum(not any(found) for found in zip(*rewrites.values(), strict=True))
        yield _Part(shard, samples, rewrites)


@contextlib.contextmanager
def _whole_file(url: str) -> Iterator[Path]:
    """A local path to write to, whose content becomes the file `url` if all goes well."""
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


def _write_parquet(output: str, parts: Iterator[_Part], widths: Mapping[str, int], exported: Exported) -> None:
    schema = pa.schema(
        [
            *(pa.field(name, pa.string(), nullable=False) for name in _ID_COLUMNS),
            *(pa.field(name, pa.list_(pa.string()), nullable=False) for name in widths),
        ]
    )
    with _whole_file(output) as path, pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in parts:
            columns = [
                [part.shard.name] * len(part.samples),
                [sample.id for sample in part.samples],
                [sample.caption_hash for sample in part.samples],
                [sample.caption for sample in part.samples],
                *(part.rewrites[name] for name in widths),
            ]
            arrays = [pa.array(column, each.type) for column, each in zip(columns, schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))
    exported.files.append(output)


def text_files(name: str, width: int) -> list[str]:
    """The names of a set's files in a text export."""
    if width == 1 and not _NUMBERED.fullmatch(name):
        return [f"{name}.txt"]
    return [f"{name}.{number}.txt" for number in range(width)]


def _write_text(output: str, parts: Iterator[_Part], widths: Mapping[str, int], exported: Exported) -> None:
    with contextlib.ExitStack() as stack:

        def create(file_name: str) -> io.TextIOBase:
            url = storage.join(output, file_name)
            path = stack.enter_context(_whole_file(url))
            exported.files.append(url)
            return stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))

        captions = csv.writer(create(CAPTIONS_FILE), lineterminator="\n")  # entered first, so that it appears last
        texts = {name: [create(each) for each in text_files(name, width)] for name, width in widths.items()}
        for part in parts:
            captions.writerows((sample.id, _LINE_BREAKS.sub(" ", sample.caption)) for sample in part.samples)
            for name, files in texts.items():
                for number, file in enumerate(files):
                    file.writelines(
                        _one_line(found[number] if number < len(found) else "") + "\n" for found in part.rewrites[name]
                    )


def _write_webdataset(output: str, parts: Iterator[_Part], widths: Mapping[str, int], exported: Exported) -> None:
    keys = {name: [rewrite_key(name, number, width) for number in range(width)] for name, width in widths.items()}
    exported.json_keys = [ORIGINAL_CAPTION_KEY, *(key for group in keys.values() for key in group)]
    sizes: dict[str, dict[str, int]] = {}
    for part in parts:
        url = storage.join(output, part.shard.name)
        fs, path = storage.filesystem(part.shard.url)
        written = 0
        with _whole_file(url) as aside, fs.open(path, "rb") as source, tarfile.open(aside, "w") as tar:
            try:
                # Rows and groups are the same, but for the last row of a tar that ends in the middle.
                for row, (key, members) in enumerate(tar_groups(source, with_images=True)):
                    fields, is_object = _json_fields(members.get("json"))
                    exported.json_replaced += not is_object
                    fields = {name: value for name, value in fields.items() if name not in exported.json_keys}
                    content = json.dumps({**fields, **_texts_of(part, row, keys)}, ensure_ascii=False).encode()
                    for extension, member in {**members, "json": content}.items():
                        info = tarfile.TarInfo(f"{key}.{extension}")
                        info.size = len(member or b"")
                        tar.addfile(info, io.BytesIO(member or b""))
                    written += 1
            except (tarfile.TarError, EOFError):
                exported.truncated.append(part.shard.name)
        exported.files.append(url)
        sizes.setdefault(posixpath.dirname(part.shard.name), {})[posixpath.basename(part.shard.name)] = written
    for directory, counts in sizes.items():  # where open_clip looks for the number of samples
        storage.write_json(storage.join(output, *filter(None, [directory]), "sizes.json"), counts)


def _json_fields(content: bytes | None) -> tuple[dict[str, Any], bool]:
    if content is None:
        return {}, True
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    return (found, True) if isinstance(found, dict) else ({}, False)


def _texts_of(part: _Part, row: int, keys: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The json fields of a sample's texts. A text that there is none of has no field, so that it is never drawn."""
    texts = {ORIGINAL_CAPTION_KEY: part.samples[row].caption}
    for name, group in keys.items():
        texts.update(zip(group, part.rewrites[name][row], strict=False))
    return {key: text for key, text in texts.items() if text}
