"""Pictures with text files beside them (`0001.jpg`, `0001.txt`): found in a listing, and written as one table.

A file for each caption is slow to read and has no order, so `laclip init` reads the texts once and writes a table of
paths and captions. The pictures are not copied.
"""

import json
import posixpath
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from laclip_ray import storage
from laclip_ray.data.records import MAX_ROW_BYTES
from laclip_ray.data.tar_groups import IMAGE_MEMBERS
from laclip_ray.data.tar_samples import as_utf8
from laclip_ray.survey.columns import is_image_path

IMAGE_COLUMN, CAPTION_COLUMN = "image", "caption"
_THREADS = 16
_RANKS = {f".{extension}": rank for rank, extension in enumerate(IMAGE_MEMBERS)}


@dataclass(frozen=True)
class Pairs:
    """Pictures and texts of a folder, by their paths below it."""

    captions: Mapping[str, str]
    """By picture, its text file; sorted."""
    pictures: int
    texts: int

    @property
    def lonely_pictures(self) -> int:
        """Pictures without a text, or beside another one of the same name."""
        return self.pictures - len(self.captions)

    @property
    def lonely_texts(self) -> int:
        """Texts without a picture."""
        return self.texts - len(self.captions)


def find_pairs(names: Iterable[str]) -> Pairs:
    """Pair pictures with the text files of the same name.

    Args:
        names: paths of files below a folder.

    >>> find_pairs(["a/1.jpg", "a/1.txt", "a/2.png", "notes.txt"]).captions
    {'a/1.jpg': 'a/1.txt'}
    """
    pictures: dict[str, str] = {}
    texts: dict[str, str] = {}
    picture_count = 0
    for name in sorted(names):
        stem, extension = posixpath.splitext(name)
        if extension.lower() == ".txt":
            texts[stem] = name
        elif is_image_path(name):
            picture_count += 1
            if stem not in pictures or _rank(name) < _rank(pictures[stem]):
                pictures[stem] = name
    captions = {pictures[stem]: texts[stem] for stem in pictures if stem in texts}
    return Pairs(dict(sorted(captions.items())), picture_count, len(texts))


def _rank(name: str) -> int:
    return _RANKS.get(posixpath.splitext(name)[1].lower(), len(_RANKS))


def table_of_pairs(root: str, pairs: Pairs) -> bytes:
    """The pairs as JSON lines: `image`, a path below `root`, and `caption`, the text's content.

    Raises:
        OSError: the storage failed.
    """

    def row(pair: tuple[str, str]) -> bytes:
        picture, text = pair
        fields = {IMAGE_COLUMN: picture, CAPTION_COLUMN: _read(storage.join(root, text))}
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"

    with ThreadPoolExecutor(_THREADS) as pool:
        return b"".join(pool.map(row, pairs.captions.items()))


def _read(url: str) -> str:
    fs, path = storage.filesystem(url)
    with fs.open(path, "rb") as file:
        content: bytes = file.read(MAX_ROW_BYTES // 2)
    return (as_utf8(content) or b"").decode("utf-8", "surrogateescape").strip("\r\n")
