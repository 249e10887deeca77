"""Choose the columns of captions, images and ids of a table, by their names and the values of its first rows. Pure.

A column's content decides its possible uses, and its name decides among several columns. Each choice has its reason and
the alternatives, so a user sees a wrong one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import Any

from laclip_ray.data.image_formats import JPEG_BEGINNING
from laclip_ray.data.tar_groups import IMAGE_MEMBERS

CAPTION_NAMES = (
    *("caption", "captions", "text", "txt", "alt_text", "alt", "description", "sentence", "sentences", "title"),
    *("prompt", "raw_text", "raw_caption", "en", "label_text", "name"),
)
"""Names of caption columns, the best first; compared in lower case, with `-` and spaces as `_`."""
IMAGE_NAMES = (
    *("image", "img", "picture", "jpg", "jpeg", "png", "file_name", "filename", "image_path", "filepath", "path"),
    *("file", "image_file", "url", "image_url", "img_url", "photo_image_url"),
)
ID_NAMES = ("id", "key", "uid", "image_id", "sample_id", "hash", "sha256", "md5")

_MOST = 0.8
"""A column is of a kind if this share of its values is."""
_BEGINNINGS = (JPEG_BEGINNING, b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"P5", b"P6")
_IMAGE_ENDINGS = tuple(f".{extension}" for extension in IMAGE_MEMBERS)
_MOST_NAME_CHARACTERS = 40


class Kind(StrEnum):
    """The kind of a column's values."""

    IMAGES = "encoded images"
    PATHS = "image paths"
    URLS = "URLs"
    TEXTS = "texts"
    LISTS = "lists of texts"
    OTHER = "other values"


IMAGE_KINDS = (Kind.IMAGES, Kind.PATHS, Kind.URLS)
"""The kinds of an image column, the best first: what needs no fetching."""


@dataclass(frozen=True)
class Column:
    """A column of a table, and the values of its first rows."""

    name: str
    values: Sequence[Any]

    @property
    def present(self) -> list[Any]:
        """The values without missing ones."""
        return [value for value in self.values if value is not None and value != "" and value == value]


@dataclass(frozen=True)
class Choice:
    """A chosen column."""

    name: str
    kind: Kind
    reason: str
    alternatives: tuple[str, ...] = ()
    """Other columns that could be meant."""


@dataclass(frozen=True)
class Columns:
    """The columns that a config names; None: the table has none."""

    caption: Choice | None
    image: Choice | None
    id: Choice | None


def choose_columns(columns: Sequence[Column]) -> Columns:
    """Choose the columns of a table."""
    kinds = {column.name: kind_of(column) for column in columns}
    image = _choose_image(columns, kinds)
    caption = _choose_caption(columns, kinds)
    others = [column for column in columns if column.name not in {image and image.name, caption and caption.name}]
    return Columns(caption, image, _choose_id(others, kinds, image, columns))


def kind_of(column: Column) -> Kind:
    """The kind of a column's values."""
    values = column.present
    tests: tuple[tuple[Kind, Callable[[Any], bool]], ...] = (
        (Kind.IMAGES, _is_image),
        (Kind.URLS, is_url),
        (Kind.PATHS, is_image_path),
        (Kind.LISTS, _is_list_of_texts),
        (Kind.TEXTS, _is_text),
    )
    for kind, test in tests:
        if values and sum(map(test, values)) >= _MOST * len(values):
            return kind
    return Kind.OTHER


def is_url(value: object) -> bool:
    """Whether a value is a URL."""
    return isinstance(value, str) and "://" in value[:16] and " " not in value.strip()


def is_image_path(value: object) -> bool:
    """Whether a value is the path of an image file, by its extension."""
    return isinstance(value, str) and not is_url(value) and value.lower().endswith(_IMAGE_ENDINGS)


def _is_image(value: object) -> bool:
    if isinstance(value, Mapping):  # Hugging Face's image feature
        return "bytes" in value and "path" in value
    return isinstance(value, bytes) and value.startswith(_BEGINNINGS)


def _is_text(value: object) -> bool:
    """Whether a value is text, or bytes of a text: some writers of Parquet do not mark texts."""
    if not isinstance(value, bytes):
        return isinstance(value, str)
    try:
        return value.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, str) for each in value)


def lacks_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row of a CSV or TSV is data: it has a URL, an image path, or a long text, as later rows have.

    >>> lacks_header([["a cat", "http://h/1.jpg"], ["a dog", "http://h/2.jpg"]])
    True
    """
    if not rows:
        return False
    first = rows[0]
    if any(is_url(value) or is_image_path(value) for value in first):
        return True
    names = [value.strip() for value in first]
    if any(len(name) > _MOST_NAME_CHARACTERS or len(name.split()) > 3 for name in names):
        return True
    return not all(names[:1]) or len({*names}) < len(names)


def name_columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names for the columns of a table without a header: `caption`, `url` or `image`, and `column1` and so on."""
    width = max(map(len, rows), default=0)
    columns = [Column(str(number), [row[number] for row in rows if number < len(row)]) for number in range(width)]
    chosen = choose_columns(columns)
    names = {chosen.caption.name: "caption"} if chosen.caption else {}
    if chosen.image is not None:
        names[chosen.image.name] = "url" if chosen.image.kind is Kind.URLS else "image"
    return [names.get(str(number), f"column{number + 1}") for number in range(width)]


def _choose_caption(columns: Sequence[Column], kinds: Mapping[str, Kind]) -> Choice | None:
    able = [column for column in columns if kinds[column.name] in (Kind.TEXTS, Kind.LISTS)]
    if not able:
        return None
    named = _by_name(able, CAPTION_NAMES)
    if named:
        best, reason = named[0], "by its name"
        others = named[1:]
    else:
        best = max(able, key=lambda column: _median_words(column))
        others = [column for column in able if column is not best and _median_words(column) >= 2]
        reason = "it has the longest texts" if len(able) > 1 else "it is the only column of texts"
    return Choice(best.name, kinds[best.name], reason, tuple(column.name for column in others))


def _choose_image(columns: Sequence[Column], kinds: Mapping[str, Kind]) -> Choice | None:
    for kind in IMAGE_KINDS:
        able = [column for column in columns if kinds[column.name] is kind]
        if able:
            best = [*_by_name(able, IMAGE_NAMES), *able][0]
            able_too = [column.name for column in columns if kinds[column.name] in IMAGE_KINDS]
            alternatives = tuple(name for name in able_too if name != best.name)
            return Choice(best.name, kind, f"it holds {kind}", alternatives)
    return None


def _choose_id(
    others: Sequence[Column], kinds: Mapping[str, Kind], image: Choice | None, columns: Sequence[Column]
) -> Choice | None:
    """A column of ids, if the table has no image path or URL: these are better ids, as peers use them too."""
    if image is not None and (image.kind is not Kind.IMAGES or _has_paths(image.name, columns)):
        return None
    if any(column.name == "url" for column in others):
        return None
    for column in _by_name(others, ID_NAMES):
        values = column.present
        if len(values) == len(column.values) and len({*map(str, values)}) == len(values):
            return Choice(column.name, kinds[column.name], "its values differ")
    return None if image is None else _member_of_images(image.name, columns)


def _member_of_images(name: str, columns: Sequence[Column]) -> Choice | None:
    """The paths that Hugging Face's images carry beside their bytes, if each has one of its own."""
    values = next(column.values for column in columns if column.name == name)
    paths = [value["path"] for value in values if isinstance(value, Mapping) and value.get("path")]
    if len(paths) < len(values) or len({*map(str, paths)}) < len(paths):
        return None
    return Choice(f"{name}.path", Kind.PATHS, "the names that the images carry differ")


def _has_paths(name: str, columns: Sequence[Column]) -> bool:
    """Whether the images are named by a path, without their bytes, which makes it the id."""
    values = next(column.present for column in columns if column.name == name)
    return all(isinstance(value, Mapping) and not value.get("bytes") for value in values)


def _by_name(columns: Sequence[Column], names: Sequence[str]) -> list[Column]:
    """The columns with one of these names, in the order of the names."""
    plain = {column.name: column.name.lower().replace("-", "_").replace(" ", "_") for column in columns}
    found = [column for column in columns if plain[column.name] in names]
    return sorted(found, key=lambda column: names.index(plain[column.name]))


def _median_words(column: Column) -> float:
    texts = [value if isinstance(value, str) else " ".join(value[:1]) for value in column.present
             if isinstance(value, str | list | tuple)]  # fmt: skip
    return median([len(text.split()) for text in texts] or [0])
