"""Which line of the text files rewrites a sample: the CSV of ids and captions, indexed by id.

Guarantees: a line belongs to a sample if the ids are equal and the captions differ in white space at most. Equal rows
and equal samples are paired in order.

Memory: 33 bytes per row of the CSV, 50 while it is read.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import DUPLICATE_ID, Sample, Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.webdataset import IMAGE_MEMBERS
from laclip_ray.errors import UserError
from laclip_ray.randomness import hash64
from laclip_ray.tally import NAMES_SHOWN

NOT_IN_IMPORT = "not_in_import"
"""The outcome of a sample whose id is in no row."""
CAPTION_DIFFERS = "caption_differs"
"""The outcome of a sample whose id is in a row, but with another caption."""


@dataclass(frozen=True)
class CaptionRow:
    """A row of the CSV."""

    id: str
    caption: str
    has_image: bool
    """Whether the id is the path of an image."""


@dataclass(frozen=True)
class CaptionsTable:
    """The CSV of ids and captions. It is read like data, so captions are cleaned the same way."""

    url: str
    data: DataConfig
    shards: list[Shard]
    header: bool
    strip_extension: bool
    digest: str

    @classmethod
    def open(cls, url: str, header: bool, id_field: int, caption_field: int, strip_extension: bool) -> "CaptionsTable":
        """Find the fields of a CSV, or of a TSV by its extension.

        Args:
            url: the file.
            header: whether to skip the first row.
            id_field: number of the field with the ids, from 1.
            caption_field: number of the field with the captions, from 1.
            strip_extension: whether to remove image extensions from ids.

        Raises:
            UserError: there is no such file, or it has no such fields.
        """
        if not storage.exists(url) or storage.is_directory(url):
            raise UserError(f"there is no file {url}")
        is_tsv = url.lower().endswith(".tsv")
        digest = hashlib.sha256()
        fields = 0
        for offset, line in storage.iterate_lines(url):
            digest.update(line + b"\n")
            if offset == 0:
                text = line.decode("utf-8", "replace")
                fields = len(text.split("\t")) if is_tsv else len(next(csv.reader([text + "\n"]), []))
        if id_field == caption_field or not 1 <= min(id_field, caption_field) <= max(id_field, caption_field) <= fields:
            raise UserError(
                f"{url}: the first row has {fields} fields; --id-field {id_field} and --caption-field {caption_field} "
                "must be two of them"
            )
        columns = [f"field {number}" for number in range(1, fields + 1)]
        columns[id_field - 1], columns[caption_field - 1] = "id", "caption"
        data = DataConfig(path=url, format="tsv" if is_tsv else "csv", columns=columns, id_column="id")
        return cls(url, data, list_shards(data, url), header, strip_extension, digest.hexdigest())

    def rows(self) -> Iterator[CaptionRow]:
        """All rows but the header."""
        is_header = self.header
        for shard in self.shards:
            for sample in read_samples(shard, self.data, with_images=False):
                if is_header:
                    is_header = False
                    continue
                sample_id = _id_in_file(sample)
                stem, _, extension = sample_id.rpartition(".")
                has_image = bool(stem) and extension.lower() in IMAGE_MEMBERS
                yield CaptionRow(stem if has_image and self.strip_extension else sample_id, sample.caption, has_image)


class LineIndex:
    """Finds the line of a sample. Ids are 128-bit hashes in a sorted array, as there may be tens of millions."""

    def __init__(
        self,
        ids: npt.NDArray[Any],
        captions: npt.NDArray[np.uint64],
        has_line: npt.NDArray[np.bool_] | None,
        first_id: str,
    ) -> None:
        """Sort the ids; `build` computes the arguments.

        Args:
            ids: [N] a hash of the id in each line.
            captions: [N] a hash of the caption in each line.
            has_line: [rows of the CSV] whether the row has a line. None: every row has.
            first_id: the id of the first row, for messages.
        """
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        self._captions = captions
        self._has_line = has_line
        self._times_taken: Counter[tuple[int, int]] = Counter()
        self.first_id = first_id
        self.used = np.zeros(len(ids), bool)
        """[N] whether a sample has taken the line."""

    def __len__(self) -> int:
        return len(self._ids)

    @classmethod
    def build(cls, table: CaptionsTable, line_counts: Mapping[str, int]) -> "LineIndex":
        """Read the CSV, and check that every text file has a line for each row, or for each row of an image.

        Args:
            table: the CSV.
            line_counts: lines of each text file, by name.

        Raises:
            UserError: the counts differ.
        """
        ids, captions, has_images = bytearray(), bytearray(), bytearray()
        first_id = ""
        for row in table.rows():
            first_id = first_id or row.id
            ids += _digest_id(row.id)
            captions += _hash_words(row.caption).to_bytes(8, "little")
            has_images.append(row.has_image)
        has_image = np.frombuffer(has_images, bool)
        id_array, caption_array = np.frombuffer(ids, "S16"), np.frombuffer(captions, "<u8")
        rows, image_rows = len(has_image), int(has_image.sum())
        if rows and all(count == rows for count in line_counts.values()):
            return cls(id_array, caption_array, None, first_id)
        if image_rows and all(count == image_rows for count in line_counts.values()):
            return cls(id_array[has_image], caption_array[has_image], has_image, first_id)
        url, count = next((url, count) for url, count in line_counts.items() if count != rows)
        of_images = f" ({image_rows:,} of them with an image's path)" if image_rows != rows else ""
        raise UserError(
            f"{url} has {count:,} lines, but {table.url} has {rows:,} rows{of_images}; line n must be the rewrite of "
            "row n. If the first row names the columns, say --header. Nothing was written"
        )

    def find(self, samples: Sequence[Sample]) -> list[int | str]:
        """For each sample the number of its line, or the outcome that says why it has no line."""
        lines: list[int | str] = []
        for sample, equal_ids in zip(samples, self._ranges([sample.id for sample in samples]), strict=True):
            ranges = [equal_ids]
            if DUPLICATE_ID in sample.problems:
                ranges += self._ranges([_id_in_file(sample)])
            candidates = (self._take(first, last, sample) for first, last in ranges)
            line = next((line for line in candidates if line is not None), None)
            if line is not None:
                lines.append(line)
            else:
                lines.append(CAPTION_DIFFERS if any(first < last for first, last in ranges) else NOT_IN_IMPORT)
        return lines

    def _ranges(self, ids: Sequence[str]) -> list[tuple[int, int]]:
        """For each id the range (first, end) of equal ids among the sorted ids."""
        digests = np.array([_digest_id(sample_id) for sample_id in ids], "S16")
        first = np.searchsorted(self._ids, digests, "left").tolist()
        return list(zip(first, np.searchsorted(self._ids, digests, "right").tolist(), strict=True))

    def _take(self, first: int, end: int, sample: Sample) -> int | None:
        """The next line of one id that has the sample's caption."""
        caption = _hash_words(sample.caption)
        lines = [int(line) for line in self._order[first:end] if self._captions[line] == caption]
        if not lines:
            return None
        number = 0
        if len(lines) > 1:
            number = min(self._times_taken[first, caption], len(lines) - 1)
            self._times_taken[first, caption] += 1
        self.used[lines[number]] = True
        return lines[number]

    def unused_names(self, table: CaptionsTable) -> list[str]:
        """The ids of the first few lines that no sample has taken."""
        row_numbers = np.arange(len(self)) if self._has_line is None else np.flatnonzero(self._has_line)
        unused = set(row_numbers[~self.used][:NAMES_SHOWN].tolist())
        names = []
        for number, row in enumerate(table.rows()):
            if number in unused:
                names.append(row.id)
                if len(names) == len(unused):
                    break
        return names


def _id_in_file(sample: Sample) -> str:
    """The id without the number that a repeated id gets."""
    return sample.id.rpartition("#")[0] if DUPLICATE_ID in sample.problems else sample.id


def _digest_id(sample_id: str) -> bytes:
    return hashlib.blake2b(sample_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _hash_words(caption: str) -> int:
    """A hash of the caption that white space does not change."""
    return hash64(" ".join(caption.split()))
