"""The captions that line-aligned text files rewrite: a CSV of ids and captions, or a file of captions alone.

Row n of it belongs to line n of every text file (`line_files`).
"""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.records import DUPLICATE_ID, Sample, Shard, clean_caption
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.webdataset import IMAGE_MEMBERS
from laclip_ray.errors import UserError


@dataclass(frozen=True)
class CaptionRow:
    """A row of the file."""

    id: str
    caption: str
    has_image: bool
    """Whether the id is the path of an image."""


class CaptionsTable(Protocol):
    """The rows of a file of captions, in order."""

    @property
    def url(self) -> str:
        """The file."""

    @property
    def digest(self) -> str:
        """Of the file's content."""

    def rows(self) -> Iterator[CaptionRow]:
        """All rows. Every call reads the file again."""


@dataclass(frozen=True)
class CsvTable:
    """A CSV of ids and captions. It is read like data, so captions are cleaned the same way."""

    url: str
    data: DataConfig
    shards: Sequence[Shard]
    header: bool
    digest: str

    @classmethod
    def open(cls, url: str, header: bool, id_field: int, caption_field: int) -> "CsvTable":
        """Find the fields of a CSV, or of a TSV by its extension.

        Args:
            url: the file.
            header: whether to skip the first row.
            id_field: number of the field with the ids, from 1.
            caption_field: number of the field with the captions, from 1.

        Raises:
            UserError: there is no such file, or it has no such fields.
        """
        digest, first_line = _digest_lines(url)
        is_tsv = url.lower().endswith(".tsv")
        fields = len(first_line.split("\t")) if is_tsv else len(next(csv.reader([first_line + "\n"]), []))
        if not first_line:
            fields = 0
        if id_field == caption_field or not 1 <= min(id_field, caption_field) <= max(id_field, caption_field) <= fields:
            raise UserError(
                f"{url}: the first row has {fields} fields; --id-field {id_field} and --caption-field {caption_field} "
                "must be two of them. For a file with a caption on each line and nothing else, say --captions-only"
            )
        columns = [f"field {number}" for number in range(1, fields + 1)]
        columns[id_field - 1], columns[caption_field - 1] = "id", "caption"
        data = DataConfig(path=url, format="tsv" if is_tsv else "csv", columns=columns, id_column="id")
        return cls(url, data, list_shards(data, url), header, digest)

    def rows(self) -> Iterator[CaptionRow]:
        """All rows but the header."""
        is_header = self.header
        for shard in self.shards:
            for sample in read_samples(shard, self.data, with_images=False):
                if is_header:
                    is_header = False
                    continue
                sample_id = id_in_file(sample)
                yield CaptionRow(sample_id, sample.caption, without_image_extension(sample_id) != sample_id)


@dataclass(frozen=True)
class PlainCaptions:
    """A file with only a caption on each line."""

    url: str
    digest: str
    header: bool

    @classmethod
    def open(cls, url: str, header: bool) -> "PlainCaptions":
        """Read the file once.

        Raises:
            UserError: there is no such file.
        """
        return cls(url, _digest_lines(url)[0], header)

    def rows(self) -> Iterator[CaptionRow]:
        """All rows but the header; a row's id is the number of its line."""
        for number, (_, line) in enumerate(storage.iterate_lines(self.url), start=1):
            if number > self.header:
                yield CaptionRow(f"line {number}", clean_caption(line.removeprefix(b"\xef\xbb\xbf"))[0], False)


def id_in_file(sample: Sample) -> str:
    """The id without the number that a repeated id gets."""
    return sample.id.rpartition("#")[0] if DUPLICATE_ID in sample.problems else sample.id


def without_image_extension(path: str) -> str:
    """The path of an image without its extension; any other text unchanged.

    >>> without_image_extension("train/1.JPG"), without_image_extension("1.5")
    ('train/1', '1.5')
    """
    stem, _, extension = path.rpartition(".")
    return stem if stem and extension.lower() in IMAGE_MEMBERS else path


def _digest_lines(url: str) -> tuple[str, str]:
    """A digest of a file's lines, and its first line.

    Raises:
        UserError: there is no such file.
    """
    if not storage.exists(url) or storage.is_directory(url):
        raise UserError(f"there is no file {url}; give the captions that the texts were made from")
    digest = hashlib.sha256()
    first_line = ""
    for offset, line in storage.iterate_lines(url):
        digest.update(line + b"\n")
        if offset == 0:
            first_line = line.decode("utf-8", "replace")
    return digest.hexdigest(), first_line
