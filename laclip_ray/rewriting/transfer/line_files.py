"""Line-aligned text files: line n of every text file rewrites the caption in row n of a CSV.

The authors of LaCLIP publish CC3M, CC12M and RedCaps in this form, and their loader reads it (`CsvDatasetAugCap` in
https://github.com/LijieFan/LaCLIP/blob/main/data.py). The CSV has no header; its first two fields are image path and
caption (CC3M's third is the URL). Each source of rewrites has a text file. Their loader skips rows whose path is not
the path of an image.

A file's name says which set and slot it holds: `NAME.txt` is the only slot of the set NAME, and `NAME.0.txt`,
`NAME.1.txt` ... are its slots in order. An empty line is a missing rewrite.
"""

import contextlib
import hashlib
import mmap
import posixpath
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from laclip_ray import storage
from laclip_ray.errors import UserError

CAPTIONS_FILE = "captions.csv"
"""The CSV of an export."""
_NUMBERED = re.compile(r"(.+)\.(\d+)")
_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LINE_BREAKS = re.compile(r"[\r\n]+")
_OFFSET_BYTES = 8


def join_lines(text: str) -> str:
    """A text on one line: each line break becomes a space."""
    return _LINE_BREAKS.sub(" ", text)


def clean_line(text: str) -> str:
    """A rewrite on one line, without byte order marks and white space at its ends."""
    return join_lines(text.replace("\ufeff", "")).strip()


def file_names(set_name: str, slots: int) -> list[str]:
    """The names of a set's text files, by slot.

    >>> file_names("human", 1), file_names("human", 2)
    (['human.txt'], ['human.0.txt', 'human.1.txt'])
    """
    if slots == 1 and not _NUMBERED.fullmatch(set_name):
        return [f"{set_name}.txt"]
    return [f"{set_name}.{slot}.txt" for slot in range(slots)]


def group_files(urls: Sequence[str], names: Sequence[str] = ()) -> dict[str, list[str]]:
    """The text files of each set, by slot; the inverse of `file_names`.

    Args:
        urls: the text files, in any order.
        names: other names for the sets, in the order of their first files.

    Raises:
        UserError: two files hold the same slot, a slot is missing, or a name cannot be a set's.
    """
    urls_by_stem: dict[str, dict[int, str]] = {}
    for url in urls:
        stem = posixpath.splitext(storage.name_of(url))[0]
        parts = _NUMBERED.fullmatch(stem)
        name, slot = (parts[1], int(parts[2])) if parts else (stem, 0)
        url_of_slot = urls_by_stem.setdefault(name, {})
        if slot in url_of_slot:
            raise UserError(f"{url_of_slot[slot]} and {url} would both be rewrite {slot} of the set {name!r}")
        url_of_slot[slot] = url
    if names and len(names) != len(urls_by_stem):
        raise UserError(f"--name: {len(names)} names for {len(urls_by_stem)} sets ({', '.join(urls_by_stem)})")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise UserError(f"--name: two sets would be called {repeated[0]!r}; give each a name of its own")
    files = {}
    for name, (stem, url_of_slot) in zip(names or urls_by_stem, urls_by_stem.items(), strict=True):
        if not _SET_NAME.fullmatch(name):
            raise UserError(f"{name!r} cannot name a set (letters, digits, _, . and -); give another by --name")
        slots = sorted(url_of_slot)
        if slots != list(range(len(slots))):
            raise UserError(f"{stem}: of the files {stem}.0, {stem}.1 ... there is only {slots}")
        files[name] = [url_of_slot[slot] for slot in slots]
    return files


class Lines:
    """A text file's lines by number. The file is mapped, not read; each line's offset takes 8 bytes."""

    def __init__(self, url: str, path: str) -> None:
        """Find the lines.

        Args:
            url: the file's name for messages and recipes.
            path: a local copy.
        """
        self.url = url
        digest = hashlib.sha256()
        starts = bytearray()
        end = 0
        for start, line in storage.iterate_lines(path):
            starts += start.to_bytes(_OFFSET_BYTES, "little")
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
        """A line, cleaned, with invalid UTF-8 replaced."""
        if self._map is None:
            return ""
        end = int(self._starts[number + 1]) if number + 1 < len(self) else self._end
        return clean_line(self._map[int(self._starts[number]) : end].decode("utf-8", "replace"))

    def close(self) -> None:
        """Release the file."""
        if self._map is not None:
            self._map.close()


@contextlib.contextmanager
def open_lines(url: str) -> Iterator[Lines]:
    """The lines of a file; a remote file is first copied to a temporary directory.

    Raises:
        UserError: there is no such file.
    """
    if not storage.exists(url) or storage.is_directory(url):
        raise UserError(f"there is no text file {url}")
    fs, path = storage.filesystem(url)
    with contextlib.ExitStack() as stack:
        if not storage.is_local(url):
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "lines.txt"
            fs.get_file(path, str(copy))
            path = str(copy)
        lines = Lines(url, path)
        stack.callback(lines.close)
        yield lines
