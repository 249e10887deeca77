"""Rewrite sets from and to the files that others use: line-aligned texts, one Parquet file, WebDataset tars.

**Line-aligned texts** are what the authors of LaCLIP publish for CC3M, CC12M and RedCaps, and what their loader reads
(`CsvDatasetAugCap` in https://github.com/LijieFan/LaCLIP/blob/main/data.py): a CSV without a header whose first two
fields are image path and caption (CC3M's has the URL as third), and for each source of rewrites a text file whose line
n rewrites the caption of row n. The loader leaves out rows whose path is not one of an image.

**WebDataset**: open_clip's main branch draws the caption from fields of a sample's json member, each a string, that
`--json-text-key A;B;C` names, in a random order by the weights in `--json-text-key-probs`; the first that is not empty
is taken (`JsonCaptionExtractor` in its `open_clip_train/data.py`). The release that this project trains with (3.3)
has neither option: it reads the txt member, which is kept as it is.

Guarantees: wrong counts of lines are refused before anything is written. Lines are joined by the sample's id, and only
where the caption is the same but for white space; lines and samples without a counterpart are counted and named. An
import that was stopped is continued by the same command. What an export writes appears whole, each file by itself;
what is there already is never written over. A text export that is imported again gives equal accepted rewrites.

Memory: an import holds 33 bytes for each row of the CSV (50 while it reads it) and 8 for each line of each text file
(65 MB a million rows with four files), and one shard of the data; text files are mapped, and those behind a URL are
first copied to a temporary directory. An export holds one shard.

Not covered: original captions in files that hold no ids; continuing an export that was stopped.
"""

import contextlib
import csv
import functools
import hashlib
import mmap
import posixpath
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from laclip_ray import storage
from laclip_ray.config import DataConfig, Experiment
from laclip_ray.data.records import DUPLICATE_ID, NO_CAPTION, Sample, Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.tokens import count_tokens, tokenizer_spec
from laclip_ray.data.webdataset import IMAGE_MEMBERS
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.randomness import hash64
from laclip_ray.rewriting import store, tables
from laclip_ray.rewriting.draws import judge_draws
from laclip_ray.rewriting.gate import Gate
from laclip_ray.rewriting.prompts import prompt_texts
from laclip_ray.rewriting.recipe import gate_fingerprint
from laclip_ray.rewriting.statistics import Statistics
from laclip_ray.rewriting.store import RewriteSet
from laclip_ray.rewriting.tables import Origin

# Why a sample has no imported rewrites.
NOT_IN_IMPORT = "not_in_import"

CAPTION_DIFFERS = "caption_differs"

CAPTIONS_FILE = "captions.csv"

_NAMED = 5
"""How many of many are named in a message."""

_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

_NUMBERED = re.compile(r"(.+)\.(\d+)")

_LINE_BREAKS = re.compile(r"[\r\n]+")


@dataclass
class ImportedTexts:
    """What an import did."""

    locations: dict[str, str]
    """By set, where it is."""
    lines: int
    statistics: dict[str, Statistics] = field(default_factory=dict)
    """By set, over the shards of the data."""
    commits: int = 0
    """Shards times sets committed now."""
    commits_before: int = 0
    """Shards times sets that were committed already."""
    unused_lines: int = 0
    """Lines whose id and caption no sample has."""
    unused_names: list[str] = field(default_factory=list)
    """The ids of the first of them."""


def import_rewrites(
    experiment: Experiment,
    captions: str,
    texts: Sequence[str],
    names: Sequence[str] = (),
    header: bool = False,
    id_field: int = 1,
    caption_field: int = 2,
) -> ImportedTexts:
    """Make rewrite sets of line-aligned text files, and judge them by the experiment's gate.

    Args:
        experiment: says where the samples are, and where the sets go (one directory each below `rewrite.output`).
        captions: the CSV (TSV by its extension) of ids and captions.
        texts: the text files. Each makes a set; `NAME.0.txt`, `NAME.1.txt` make one with several rewrites a caption.
        names: of the sets, in the order of the files; by default the files' names without their extension.
        header: whether the CSV's first row names its columns.
        id_field: the CSV's field that is the samples' id, counted from 1. In data of WebDataset tars with their keys
            for ids, an image's extension is taken off it.
        caption_field: the CSV's field that is the caption.

    Raises:
        UserError: a file is missing, counts differ, a set's directory holds something else, or no line's id is in the
            data; nothing was written.
        IncompleteError: a shard could not be read; all others are committed.
    """
    files = _group_files(texts, names)
    shards = list_shards(experiment.data)
    strip_extension = shards[0].format == "webdataset" and experiment.data.id_column is None
    if experiment.rewrite.gate.picture is not None:
        raise UserError(
            "rewrite.gate.picture: an import does not look at pictures; import with rewrite.gate.picture=null"
        )
    table = _CaptionsTable.open(captions, header, id_field, caption_field, strip_extension)
    with contextlib.ExitStack() as stack:
        opened = {name: [stack.enter_context(_open_lines(url)) for url in urls] for name, urls in files.items()}
        index = _Index.build(table, {lines.url: len(lines) for group in opened.values() for lines in group})
        storage.check_output(experiment.rewrite_output, "rewrite.output", False, 1, [])
        sets = []
        for name, group in opened.items():
            digests = "".join([table.digest, *(lines.digest for lines in group)])
            recipe = {
                "imported_from": [storage.name_of(lines.url) for lines in group],
                "captions": storage.name_of(captions),
                "lines": len(index),
                "digest": hashlib.sha256(digests.encode()).hexdigest(),
            }
            location = storage.join(experiment.rewrite_output, name)
            store.check_location(location, recipe, "rewrite.output")
            sets.append(_ImportedSet(experiment, location, recipe, group))
        imported = ImportedTexts({each.rewrite_set.name: each.rewrite_set.location for each in sets}, len(index))
        _import_shards(experiment, shards, index, sets, imported)
    imported.unused_lines = int((~index.used).sum())
    if imported.unused_lines:
        imported.unused_names = index.names_of_unused(table)
    return imported


def _import_shards(
    experiment: Experiment,
    shards: Sequence[Shard],
    index: "_Index",
    sets: "Sequence[_ImportedSet]",
    imported: ImportedTexts,
) -> None:
    failures: dict[str, str] = {}
    without_lines: list[Shard] = []

    def read(shard: Shard) -> list[Sample]:
        try:
            return list(read_samples(shard, experiment.data, with_images=False))
        except (OSError, ValueError) as error:
            failures[shard.name] = str(error)
            return []

    def commit(shard: Shard, samples: Sequence[Sample], lines: Sequence[int | str]) -> None:
        for each in sets:
            before, statistics = each.commit(shard, samples, lines)
            imported.commits_before += before
            imported.commits += not before
            imported.statistics.setdefault(each.rewrite_set.name, Statistics()).add(statistics)

    first_id = None
    for shard in shards:
        samples = read(shard)
        lines = index.find(samples)
        if any(isinstance(line, int) for line in lines):
            commit(shard, samples, lines)
        elif shard.name not in failures:
            # Written last, and only if other shards show that these are the right files for this data.
            without_lines.append(shard)
            first_id = first_id or next((sample.id for sample in samples), None)
    if without_lines and not index.used.any():
        raise UserError(
            f"none of the {len(index):,} rows is in the data with an equal id and caption; the first id there is "
            f"{index.first_id!r}, in the data {first_id!r}. Choose another field by --id-field or --caption-field, or "
            "another data.id_column"
        )
    for shard in without_lines:
        samples = read(shard)
        commit(shard, samples, index.find(samples))
    if failures:
        named = "; ".join(f"{name}: {reason}" for name, reason in list(failures.items())[:_NAMED])
        raise IncompleteError(f"{len(failures)} shards could not be read, all others are committed: {named}")


def _group_files(texts: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """The text files of each set, in the order of their draws."""
    numbered: dict[str, dict[int, str]] = {}
    for url in texts:
        stem = posixpath.splitext(storage.name_of(url))[0]
        parts = _NUMBERED.fullmatch(stem)
        name, number = (parts[1], int(parts[2])) if parts else (stem, 0)
        if number in numbered.setdefault(name, {}):
            raise UserError(f"{numbered[name][number]} and {url} would both be rewrite {number} of the set {name!r}")
        numbered[name][number] = url
    if names and len(names) != len(numbered):
        raise UserError(f"--name: {len(names)} names for {len(numbered)} sets ({', '.join(numbered)})")
    if len(set(names)) < len(names):
        raise UserError("--name: two sets have the same name")
    files = {}
    for name, (found, by_number) in zip(names or numbered, numbered.items(), strict=True):
        if not _SET_NAME.fullmatch(name):
            raise UserError(f"{name!r} cannot name a set (letters, digits, _, . and -); give another by --name")
        if sorted(by_number) != list(range(len(by_number))):
            raise UserError(f"{found}: of the files {found}.0, {found}.1 ... there is only {sorted(by_number)}")
        files[name] = [by_number[number] for number in sorted(by_number)]
    return files


class _Lines:
    """A text file's lines by their number, without reading all of it into memory."""

    def __init__(self, url: str, path: str) -> None:
        self.url = url
        digest = hashlib.sha256()
        starts = bytearray()
        end = 0
        for start, line in storage.iterate_lines(path):
            starts += start.to_bytes(8, "little")
            digest.update(line + b"\n")
            end = start + len(line)
        self.digest = digest.hexdigest()
        self._starts = np.frombuffer(starts, "<i8")
        self._end = end
        self._map: mmap.mmap | None = None
        if end:
            with Path(path).open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> str:
        if self._map is None:
            return ""
        end = int(self._starts[number + 1]) if number + 1 < len(self) else self._end
        return _one_line(self._map[int(self._starts[number]) : end].decode("utf-8", "replace"))

    def close(self) -> None:
        if self._map is not None:
            self._map.close()


@contextlib.contextmanager
def _open_lines(url: str) -> Iterator[_Lines]:
    if not storage.exists(url) or storage.is_directory(url):
        raise UserError(f"there is no text file {url}")
    fs, path = storage.filesystem(url)
    with contextlib.ExitStack() as stack:
        if not storage.is_local(url):
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "lines.txt"
            fs.get_file(path, str(copy))
            path = str(copy)
        lines = _Lines(url, path)
        stack.callback(lines.close)
        yield lines


def _one_line(text: str) -> str:
    return _LINE_BREAKS.sub(" ", text.replace("\ufeff", "")).strip()


@dataclass(frozen=True)
class _CaptionsTable:
    """The CSV of ids and captions, read as data is: what is cleaned there is cleaned here."""

    url: str
    data: DataConfig
    shards: list[Shard]
    header: bool
    strip_extension: bool
    digest: str

    @classmethod
    def open(cls, url: str, header: bool, id_field: int, caption_field: int, strip_extension: bool) -> "_CaptionsTable":
        if not storage.exists(url) or storage.is_directory(url):
            raise UserError(f"there is no file {url}")
        tabs = url.lower().endswith(".tsv")
        digest = hashlib.sha256()
        fields = 0
        for offset, line in storage.iterate_lines(url):
            digest.update(line + b"\n")
            if offset == 0:
                text = line.decode("utf-8", "replace")
                fields = len(text.split("\t")) if tabs else len(next(csv.reader([text + "\n"]), []))
        if id_field == caption_field or not 1 <= min(id_field, caption_field) <= max(id_field, caption_field) <= fields:
            raise UserError(
                f"{url}: the first row has {fields} fields; --id-field {id_field} and --caption-field {caption_field} "
                "must be two of them"
            )
        columns = [f"field {number}" for number in range(1, fields + 1)]
        columns[id_field - 1], columns[caption_field - 1] = "id", "caption"
        data = DataConfig(path=url, format="tsv" if tabs else "csv", columns=columns, id_column="id")
        return cls(url, data, list_shards(data, url), header, strip_extension, digest.hexdigest())

    def rows(self) -> Iterator[tuple[str, str, bool]]:
        """Id, caption and whether the id is an image's path, of each row but the header."""
        skip = self.header
        for shard in self.shards:
            for sample in read_samples(shard, self.data, with_images=False):
                if skip:
                    skip = False
                    continue
                sample_id = _id_in_file(sample)
                stem, _, extension = sample_id.rpartition(".")
                is_image = bool(stem) and extension.lower() in IMAGE_MEMBERS
                yield stem if is_image and self.strip_extension else sample_id, sample.caption, is_image


def _id_in_file(sample: Sample) -> str:
    """The id before a repeat of it was numbered."""
    return sample.id.rpartition("#")[0] if DUPLICATE_ID in sample.problems else sample.id


class _Index:
    """Which line rewrites a sample: ids by 128-bit hash, in sorted arrays, since there may be tens of millions."""

    def __init__(
        self, ids: npt.NDArray[Any], captions: npt.NDArray[np.uint64], kept_rows: npt.NDArray[Any] | None, first_id: str
    ) -> None:
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        self._captions = captions
        self._kept_rows = kept_rows
        self._taken: Counter[tuple[int, int]] = Counter()
        self.first_id = first_id
        self.used = np.zeros(len(ids), bool)

    def __len__(self) -> int:
        return len(self._ids)

    @classmethod
    def build(cls, table: _CaptionsTable, line_counts: Mapping[str, int]) -> "_Index":
        """Read the CSV, and check that every text file has a line for each of its rows."""
        ids, captions, images = bytearray(), bytearray(), bytearray()
        first_id = ""
        for sample_id, caption, is_image in table.rows():
            first_id = first_id or sample_id
            ids += _digest_id(sample_id)
            captions += _caption_key(caption).to_bytes(8, "little")
            images.append(is_image)
        is_image_row = np.frombuffer(images, bool)
        id_array, caption_array = np.frombuffer(ids, "S16"), np.frombuffer(captions, "<u8")
        for kept in (None, is_image_row):
            rows = len(images) if kept is None else int(kept.sum())
            if rows and all(count == rows for count in line_counts.values()):
                if kept is None:
                    return cls(id_array, caption_array, None, first_id)
                return cls(id_array[kept], caption_array[kept], kept, first_id)
        url, count = next((url, count) for url, count in line_counts.items() if count != len(images))
        also = f" ({int(is_image_row.sum()):,} of them with an image's path)" if not is_image_row.all() else ""
        raise UserError(
            f"{url} has {count:,} lines, but {table.url} has {len(images):,} rows{also}; line n must be the rewrite of "
            "row n. If the first row names the columns, say --header. Nothing was written"
        )

    def find(self, samples: Sequence[Sample]) -> list[int | str]:
        """The line of each sample, or why it has none. Equal ids and captions get their lines in order."""
        found: list[int | str] = []
        for sample, place in zip(samples, self._places([sample.id for sample in samples]), strict=True):
            places = [place]
            if DUPLICATE_ID in sample.problems:
                places += self._places([_id_in_file(sample)])
            line = next((line for each in places if (line := self._take(*each, sample)) is not None), None)
            if line is not None:
                found.append(line)
            else:
                found.append(CAPTION_DIFFERS if any(first < last for first, last in places) else NOT_IN_IMPORT)
        return found

    def _places(self, ids: Sequence[str]) -> list[tuple[int, int]]:
        digests = np.array([_digest_id(each) for each in ids], "S16")
        first = np.searchsorted(self._ids, digests, "left").tolist()
        return list(zip(first, np.searchsorted(self._ids, digests, "right").tolist(), strict=True))

    def _take(self, first: int, last: int, sample: Sample) -> int | None:
        caption = _caption_key(sample.caption)
        lines = [int(line) for line in self._order[first:last] if self._captions[line] == caption]
        if not lines:
            return None
        number = 0
        if len(lines) > 1:
            number = min(self._taken[first, caption], len(lines) - 1)
            self._taken[first, caption] += 1
        self.used[lines[number]] = True
        return lines[number]

    def names_of_unused(self, table: _CaptionsTable) -> list[str]:
        """The ids of the first few lines that no sample has asked for."""
        rows = np.arange(len(self)) if self._kept_rows is None else np.flatnonzero(self._kept_rows)
        wanted = set(rows[~self.used][:_NAMED].tolist())
        names = []
        for row, (sample_id, _, _) in enumerate(table.rows()):
            if row in wanted:
                names.append(sample_id)
                if len(names) == len(wanted):
                    break
        return names


def _digest_id(sample_id: str) -> bytes:
    return hashlib.blake2b(sample_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _caption_key(caption: str) -> int:
    return hash64(" ".join(caption.split()))


class _ImportedSet:
    """One set that is being imported."""

    def __init__(
        self, experiment: Experiment, location: str, recipe: Mapping[str, Any], files: Sequence[_Lines]
    ) -> None:
        rewrite = experiment.rewrite
        self.rewrite_set = RewriteSet(location, gate_fingerprint(rewrite.gate))
        self._recipe = recipe
        self._files = files
        self._gate_config = rewrite.gate
        # The prompts are not known; those that the authors used have their instruction.
        self._gate = Gate(
            rewrite.gate,
            ((),),
            functools.partial(count_tokens, tokenizer_spec(experiment.model.name)),
            prompt_texts("completion", "reference"),
        )
        self._claimed = False
        self._drawn = self.rewrite_set.drawn_revisions()
        self._next_revision = max(self._drawn.values(), default=-1) + 1

    def commit(self, shard: Shard, samples: Sequence[Sample], lines: Sequence[int | str]) -> tuple[bool, Statistics]:
        """Commit a shard; whether it was committed before, and its counts."""
        rewrite_set, name = self.rewrite_set, shard.name
        inputs = store.digest_inputs((each.id for each in samples), (each.caption_hash for each in samples))
        revision = self._drawn.get(name)
        if revision is not None and (origin := rewrite_set.origin(name, revision)).inputs == inputs:
            if storage.exists(rewrite_set.verdicts_url(name, revision)):
                return True, rewrite_set.describe({name: revision})[name].statistics
            draws = storage.read_parquet(rewrite_set.draws_url(name, revision))
        else:
            if not self._claimed:
                store.open_for_writing(rewrite_set.location, self._recipe, self._gate_config, "rewrite.output")
                self._claimed = True
            # A shard whose rows changed goes to a newer revision: what readers have seen stays.
            revision = 0 if revision is None else self._next_revision
            origin = Origin(shard.file_identity, inputs, len(self._files))
            draws = self._draws(samples, lines)
            store.write_draws(rewrite_set, name, revision, draws, origin)
        reasons = judge_draws(draws, self._gate)
        return False, store.commit_verdicts(rewrite_set, name, revision, draws, reasons, origin)

    def _draws(self, samples: Sequence[Sample], lines: Sequence[int | str]) -> pa.Table:
        rows: list[dict[str, Any]] = []
        for sample, line in zip(samples, lines, strict=True):
            unusable = NO_CAPTION.intersection(sample.problems)
            texts: list[str | None] = [None]
            if isinstance(line, int) and not unusable:
                texts = [file[line] for file in self._files]
            for draw, text in enumerate(texts):
                outcome = tables.DRAWN if text is not None else min(unusable) if unusable else line
                rows.append(
                    {
                        "id": sample.id,
                        "caption_hash": sample.caption_hash,
                        "caption": sample.caption,
                        "problems": ",".join(sample.problems),
                        "draw": draw,
                        "attempt": 0,
                        "head": None,
                        "outcome": outcome,
                        "text": text,
                        "truncated": False,
                        **dict.fromkeys(tables.TOKENS, 0),
                    }
                )
        return pa.Table.from_pylist(rows, schema=tables.DRAWS_SCHEMA)
