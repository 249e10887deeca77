"""Which line of the text files rewrites a sample: an index of the rows of captions by what joins them to samples.

| join | a row belongs to a sample with |
| --- | --- |
| `id` | the same id, and the same caption except for white space |
| `basename` | the same file name (path, query and image extension removed), and the same caption as above |
| `caption` | the same caption; if no row has it, the same caption except for white space |

`caption` is for data whose ids are another's numbers, such as img2dataset's tars: img2dataset copies captions
unchanged. A rewrite is made of its caption alone, so a row with an equal caption holds a rewrite for the image, even if
the row is another image's.

Guarantees: rows that share everything that joins them are dealt to their samples in turn, in order; such samples are
counted.

Memory: 37 bytes a row, 70 while the index is built. 10 million rows take 370 MB, 700 MB at the peak.
"""

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from laclip_ray.config import ImportJoin
from laclip_ray.data.records import DUPLICATE_ID, Sample
from laclip_ray.errors import UserError
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.transfer.captions_table import CaptionsTable, id_in_file, without_image_extension
from laclip_ray.tally import NAMES_SHOWN

NOT_IN_IMPORT = "not_in_import"
"""The outcome of a sample that no row belongs to."""
CAPTION_DIFFERS = "caption_differs"
"""The outcome of a sample whose id or file name is in a row, but with another caption."""


class Keys:
    """What joins rows and samples: a key, and a second value that tells rows of one key apart."""

    def __init__(self, join: ImportJoin, strip_extension: bool) -> None:
        """Choose the join.

        Args:
            join: as in the table above.
            strip_extension: with `id`, whether image extensions are removed from the rows' ids.
        """
        self.join = join
        self._strip_extension = strip_extension
        self.caption_must_agree = join != "caption"
        """Whether a row of the right key with another second value is refused."""

    def of_row(self, row_id: str, caption: str) -> str:
        """The key of a row."""
        if self.join == "caption":
            return _words(caption)
        if self.join == "basename":
            return base_name(row_id)
        return without_image_extension(row_id) if self._strip_extension else row_id

    def of_sample(self, sample: Sample) -> list[str]:
        """The keys of a sample, the likeliest first."""
        if self.join == "caption":
            return [_words(sample.caption)]
        ids = [sample.id, id_in_file(sample)] if DUPLICATE_ID in sample.problems else [sample.id]
        return [base_name(sample_id) for sample_id in ids] if self.join == "basename" else ids

    def second(self, caption: str) -> int:
        """The second value: a hash of the caption, without its white space if the key is not the caption's words."""
        return hash64(_words(caption) if self.caption_must_agree else caption)


class LineIndex:
    """Finds the line of a sample. Keys are 128-bit hashes in a sorted array, as there may be tens of millions."""

    def __init__(
        self,
        keys: Keys,
        digests: npt.NDArray[Any],
        seconds: npt.NDArray[np.uint64],
        has_line: npt.NDArray[np.bool_] | None,
        first_key: str,
    ) -> None:
        """Sort the keys; `build` computes the arguments.

        Args:
            keys: the join.
            digests: [N] a hash of the key of each line.
            seconds: [N] the second value of each line.
            has_line: [rows of the table] whether the row has a line. None: every row has.
            first_key: the key of the first row, for messages.
        """
        self._keys = keys
        self._order = np.lexsort((seconds, digests))
        self._digests = digests[self._order]
        self._seconds = seconds[self._order]
        self._has_line = has_line
        self._times_taken = np.zeros(len(digests), np.uint32)
        """[N] at the first of equal lines, how often one of them was taken."""
        self.first_key = first_key
        self.used = np.zeros(len(digests), bool)
        """[N] whether a sample has taken the line."""
        self.ambiguous_samples = 0
        """Samples that several lines belong to equally."""
        self.ambiguous_names: list[str] = []
        """The ids of the first few of them."""

    def __len__(self) -> int:
        return len(self._digests)

    @classmethod
    def build(cls, table: CaptionsTable, line_counts: Mapping[str, int], keys: Keys) -> "LineIndex":
        """Read the table, and check that every text file has a line for each row, or for each row of an image.

        Args:
            table: ids and captions.
            line_counts: lines of each text file, by name.
            keys: the join.

        Raises:
            UserError: the counts differ.
        """
        digests, seconds, has_images = bytearray(), bytearray(), bytearray()
        first_key = ""
        for row in table.rows():
            key = keys.of_row(row.id, row.caption)
            first_key = first_key or key
            digests += _digest(key)
            seconds += keys.second(row.caption).to_bytes(8, "little")
            has_images.append(row.has_image)
        has_image = np.frombuffer(has_images, bool)
        digest_array, second_array = np.frombuffer(digests, "S16"), np.frombuffer(seconds, "<u8")
        rows, image_rows = len(has_image), int(has_image.sum())
        if rows and all(count == rows for count in line_counts.values()):
            return cls(keys, digest_array, second_array, None, first_key)
        if image_rows and all(count == image_rows for count in line_counts.values()):
            return cls(keys, digest_array[has_image], second_array[has_image], has_image, first_key)
        url, count = next((url, count) for url, count in line_counts.items() if count != rows)
        of_images = f" ({image_rows:,} of them with an image's path)" if image_rows != rows else ""
        raise UserError(
            f"{url} has {count:,} lines, but {table.url} has {rows:,} rows{of_images}; line n must be the rewrite of "
            "row n. If the first row names the columns, say --header. Nothing was written"
        )

    def find(self, samples: Sequence[Sample]) -> list[int | str]:
        """For each sample the number of its line, or the outcome that says why it has no line."""
        keys_of_samples = [self._keys.of_sample(sample) for sample in samples]
        ranges = iter(self._ranges([key for keys in keys_of_samples for key in keys]))
        lines: list[int | str] = []
        for sample, keys in zip(samples, keys_of_samples, strict=True):
            own = [next(ranges) for _ in keys]
            candidates = (self._take(first, end, sample) for first, end in own)
            line = next((line for line in candidates if line is not None), None)
            if line is not None:
                lines.append(line)
            else:
                lines.append(CAPTION_DIFFERS if any(first < end for first, end in own) else NOT_IN_IMPORT)
        return lines

    def _ranges(self, keys: Sequence[str]) -> list[tuple[int, int]]:
        """For each key the range (first, end) of equal keys among the sorted keys."""
        digests = np.array([_digest(key) for key in keys], "S16")
        first = np.searchsorted(self._digests, digests, "left").tolist()
        return list(zip(first, np.searchsorted(self._digests, digests, "right").tolist(), strict=True))

    def _take(self, first: int, end: int, sample: Sample) -> int | None:
        """The sample's next line of one key."""
        if first == end:
            return None
        second = np.uint64(self._keys.second(sample.caption))
        start = first + int(np.searchsorted(self._seconds[first:end], second, "left"))
        stop = first + int(np.searchsorted(self._seconds[first:end], second, "right"))
        if start == stop:
            if self._keys.caption_must_agree:
                return None
            start, stop = first, end
        if stop - start > 1 and sample.caption:
            self.ambiguous_samples += 1
            if len(self.ambiguous_names) < NAMES_SHOWN:
                self.ambiguous_names.append(sample.id)
        line = int(self._order[start + int(self._times_taken[start]) % (stop - start)])
        self._times_taken[start] += 1
        self.used[line] = True
        return line

    def explain_no_match(self, sample: Sample | None) -> str:
        """Why no line belongs to any sample, with the keys of the first row and of one sample."""
        what = {"id": "an equal id and caption", "basename": "an equal file name and caption"}
        in_data = f", in the data {self._keys.of_sample(sample)[0]!r}" if sample is not None else ""
        return (
            f"none of the {len(self):,} rows is in the data with {what.get(self._keys.join, 'an equal caption')}; the "
            f"first {self._keys.join} there is {self.first_key!r}{in_data}. Choose another --join (id, caption or "
            "basename), another field by --id-field or --caption-field, or another data.id_column"
        )

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


def base_name(path_or_url: str) -> str:
    """The name of an image file without its extension, from a path, a URL or a WebDataset key.

    A text that ends with a slash is its own name.

    >>> base_name("train/00012/000123.jpg"), base_name("https://host/a/b.png?width=640"), base_name("000123")
    ('000123', 'b', '000123')
    """
    path = urlsplit(path_or_url).path if "://" in path_or_url else path_or_url
    return without_image_extension(posixpath.basename(path)) or path_or_url


def _words(caption: str) -> str:
    """The caption with single spaces."""
    return " ".join(caption.split())


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
