"""Labelled sets: find the shards, classes and templates of a set of any layout, and read its encoded images.

    webdataset   CLIP_benchmark's tars                         `tars`
    folders      a directory a class                           `folders`
    parquet      Hugging Face's files with a label column      `tables`
    csv          a table that names image files and labels     `tables`

Reading does not decode, and labels stay raw: features are stored by shard, and class names and subsets of classes may
change later.

Images are meant to be read as CLIP_benchmark reads them: EXIF orientation is ignored. Unlike there, transparent images
are laid on white, and 16-bit images keep their grey levels.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

from laclip_ray.config import LabelledConfig
from laclip_ray.data.hub_addresses import resolve_hub_address
from laclip_ray.data.image_sources import StoreError
from laclip_ray.data.records import clean_id
from laclip_ray.errors import UserError
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.sets.class_labels import ELSEWHERE, class_labels
from laclip_ray.evaluation.sets.class_lists import NAMED_CLASS_LISTS, load_class_names
from laclip_ray.evaluation.sets.class_subset import is_wordnet_id, read_class_subset
from laclip_ray.evaluation.sets.folders import open_folders, read_folder
from laclip_ray.evaluation.sets.records import LabelledImage, LabelledShard, Layout, OpenedLayout, with_unique_ids
from laclip_ray.evaluation.sets.set_files import CLASS_NAMES_FILE, TEMPLATES_FILE, SetFiles, find_layout
from laclip_ray.evaluation.sets.table_reading import read_table
from laclip_ray.evaluation.sets.tables import open_tables
from laclip_ray.evaluation.sets.tars import check_type, open_tars, read_tar
from laclip_ray.evaluation.sets.template_lists import NAMED_TEMPLATE_LISTS, check_templates, load_templates
from laclip_ray.evaluation.sets.text_lists import read_lines

__all__ = [
    "LABEL_UNUSABLE",
    "LabelChecks",
    "LabelledImage",
    "LabelledSet",
    "LabelledShard",
    "check_expected",
    "open_labelled_set",
    "read_labelled",
]

LABEL_UNUSABLE = "label_unusable"
"""Reason to skip an image: its label is missing, or neither the number nor the name of a class."""

_HTTP_CLIENTS = frozenset(("httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "requests", "urllib3"))
"""Packages whose errors say that a store failed, but are not `OSError`."""


@dataclass(frozen=True)
class LabelledSet:
    """A labelled set, opened."""

    name: str
    class_names: list[list[str]]
    """Several names a class, indexed by label. A name may be empty."""
    templates: list[str]
    """Prompts with `{c}` for the class name. Empty if the protocols need no prompts and the set has no templates."""
    splits: dict[str, list[LabelledShard]]
    """The shards by split. The first split is measured."""
    label_of_text: Mapping[str, int] = field(default_factory=dict)
    """The label that a raw label means, or `ELSEWHERE`."""
    label_of_number: Sequence[int] = ()
    """The same by number. Empty: labels are texts, also if they look like numbers."""
    is_multilabel: bool = False
    """Whether an image may have any number of labels (`metric: map`)."""

    def labels_of(self, raw: str) -> tuple[int, ...] | None:
        """The classes of an image.

        Args:
            raw: `LabelledImage.label`.

        Returns:
            One label; any number, sorted, if the set is multilabel. An empty tuple for one label an image: `classes`
            leaves its class out. None: the label is not usable.

        Raises:
            NoResultError: the image has several labels, and the set is not multilabel.
        """
        label = self._label_of(raw)
        if label is not None:
            return () if label == ELSEWHERE else (label,)
        if not raw.startswith("["):
            return None
        try:
            values = json.loads(raw)
        except (ValueError, RecursionError):
            return None
        if not self.is_multilabel:
            raise NoResultError(
                "its samples have several labels (npy members, or lists); set metric: map, the mean average precision"
            )
        return self._labels_of_list(values)

    def _label_of(self, text: str) -> int | None:
        number = number_of(text)
        if number is None or not self.label_of_number:
            return self.label_of_text.get(text) if text else None
        return self.label_of_number[number] if number < len(self.label_of_number) else None

    def _labels_of_list(self, values: list[Any]) -> tuple[int, ...] | None:
        """The labels of a 0 or 1 for each class, else of numbers and names."""
        if len(values) == len(self.class_names) and all(value in (0, 1) for value in values):
            return tuple(label for label, is_present in enumerate(values) if is_present)
        labels = [None if value is None else self._label_of(str(value)) for value in values]
        known = sorted(label for label in labels if label is not None)
        return tuple(known) if len(known) == len(labels) == len({*known}) else None

    @cached_property
    def names_digest(self) -> str:
        """32 hexadecimal digits that identify the class names and their order."""
        return _digest(self.class_names)

    @cached_property
    def templates_digest(self) -> str:
        """32 hexadecimal digits that identify the templates."""
        return _digest(self.templates)

    @property
    def urls(self) -> list[str]:
        """The files or directories of all splits, each once."""
        return list(dict.fromkeys(shard.url for shards in self.splits.values() for shard in shards))


def number_of(text: str) -> int | None:
    """The number that a raw label is; None for other texts.

    >>> number_of("7"), number_of("-1"), number_of("cat"), number_of("9" * 50)
    (7, None, None, None)
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _digest(content: Any) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def open_labelled_set(config: LabelledConfig) -> LabelledSet:
    """Find the shards, the classes and the templates of a set. Reads no image.

    Raises:
        UserError: a file is missing, empty or not UTF-8, the layout cannot be told, a split has no shards, or the set
            is of another kind. The message names the set.
    """
    where = f"evaluate.labelled: {config.name}"
    path = resolve_hub_address(config.path)
    files = SetFiles(path, where, f"evaluate.labelled[{config.name}]")
    check_type(config, path, where)
    layout = find_layout(files, config.splits) if config.layout == "auto" else config.layout
    given = None if config.class_names is None else load_class_names(config.class_names, f"{where}: class_names")
    subset = None if config.classes is None else read_class_subset(config.classes, f"{where}: classes")
    if subset is not None and config.metric == "map":
        raise UserError(f"{where}: classes: a set with several labels an image (metric: map) has no subsets of classes")
    needs_prompts = config.zero_shot or config.wording
    templates = _templates(config, files, layout, needs_prompts)
    opened = _open(config, files, layout)
    own = opened.class_names
    if own is None and (given is None or subset is not None):
        own = _own_class_names(files, layout, is_needed=given is None and opened.class_texts is None)
    classes = class_labels(given, own, opened.class_texts, subset, where)
    if needs_prompts and given is None and own is None and opened.class_texts is not None:
        _refuse_ids(classes.names, where)
    if len(classes.names) < 2 and config.metric != "map":
        raise UserError(
            f"{where}: {path} has one class ({classes.names[0][0]!r}), so every answer is right; check path, split and "
            "class_names"
        )
    return LabelledSet(
        name=config.name,
        class_names=[[clean_id(name) for name in of_class] for of_class in classes.names],
        templates=[clean_id(template) for template in templates],
        splits=opened.splits,
        label_of_text=classes.label_of_text,
        label_of_number=classes.label_of_number,
        is_multilabel=config.metric == "map",
    )


def _open(config: LabelledConfig, files: SetFiles, layout: Layout) -> OpenedLayout:
    if layout == "webdataset":
        return OpenedLayout(open_tars(config, files.path, files.where), None)
    if layout == "folders":
        return open_folders(files, config.splits)
    return open_tables(config, files, layout)


def _own_class_names(files: SetFiles, layout: Layout, is_needed: bool) -> list[list[str]] | None:
    """The names in the set's own file. None: no such file.

    Raises:
        UserError: the set needs them and has no file of them.
    """
    if files.has(CLASS_NAMES_FILE):
        return [[name] for name in read_lines(files.url_of(CLASS_NAMES_FILE), files.where)]
    if is_needed:
        named = ", ".join(NAMED_CLASS_LISTS)
        raise UserError(
            f"{files.where}: {_missing(files, CLASS_NAMES_FILE, 'class names', layout)}; set class_names to a named "
            f"list ({named}), or to a file with a class a line"
        )
    return None


def _templates(config: LabelledConfig, files: SetFiles, layout: Layout, are_needed: bool) -> list[str]:
    if config.templates is not None:
        return load_templates(config.templates, f"{files.where}: templates")
    if not are_needed:
        return []
    if files.has(TEMPLATES_FILE):
        return check_templates(read_lines(files.url_of(TEMPLATES_FILE), files.where), files.where)
    named = ", ".join(NAMED_TEMPLATE_LISTS)
    raise UserError(
        f"{files.where}: {_missing(files, TEMPLATES_FILE, 'templates', layout)}; set templates to a named list "
        f"({named}), or to a file with a template a line"
    )


def _missing(files: SetFiles, name: str, what: str, layout: Layout) -> str:
    """Say that a file of the layout is missing, or that a set of a layout without such a file lacks what it holds."""
    return f"{files.url_of(name)} does not exist" if layout == "webdataset" else f"{files.path} has no {what}"


def _refuse_ids(names: Sequence[Sequence[str]], where: str) -> None:
    if all(is_wordnet_id(name) for of_class in names for name in of_class):
        raise UserError(
            f"{where}: the classes are named by WordNet ids ({names[0][0]}, ...), which say nothing to a model; set "
            "class_names: imagenet"
        )


_READERS: dict[Layout, Callable[[LabelledShard], Iterator[LabelledImage]]] = {
    "webdataset": read_tar,
    "folders": read_folder,
    "parquet": read_table,
    "csv": read_table,
}


def read_labelled(shard: LabelledShard) -> Iterator[LabelledImage]:
    """Read the images of a shard in their order, encoded, with raw labels.

    A repeated id becomes `id#2`. So (shard name, id) is unique in a split.

    Raises:
        DamagedError: a tar ends early, is none, or has a damaged header. The images before the damage were given.
        ShardUnreadableError: a file is no table.
        FileNotFoundError: the shard's file is gone.
        OSError: the storage failed, so the shard's content is unknown.
    """
    try:
        yield from with_unique_ids(_READERS[shard.layout](shard))
    except StoreError as error:
        raise StoreError(str(error).removeprefix("data.image_column: ")) from error
    except OSError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _HTTP_CLIENTS:
            raise
        raise StoreError(f"{shard.url} could not be read ({type(error).__name__}: {error})") from error


@dataclass
class LabelChecks:
    """Reads the raw labels of a split, and remembers what tells labels that count from 1 from damaged ones."""

    labelled: LabelledSet
    _seen: set[int] = field(default_factory=set)

    def read(self, raw: str) -> tuple[int, ...] | None:
        """`LabelledSet.labels_of`.

        Raises:
            NoResultError: the image has several labels, and the set is not multilabel.
        """
        if self.labelled.label_of_number and (number := number_of(raw)) is not None:
            self._seen.add(number)
        return self.labelled.labels_of(raw)

    def finish(self) -> None:
        """Refuse labels that count from 1.

        Raises:
            NoResultError: a label equals the number of classes, and no label is 0.
        """
        classes = len(self.labelled.label_of_number)
        if classes in self._seen and 0 not in self._seen:
            raise NoResultError(
                f"its labels count from 1: {classes} is a label, 0 is none, and there are {classes} class names. Write "
                "labels that count from 0"
            )


def check_expected(config: LabelledConfig, split: str, count: int) -> None:
    """Refuse a split without images, or with another number of images than configured.

    Args:
        config: the set.
        split: the split.
        count: its images, unusable ones included, without images of unchosen classes.

    Raises:
        NoResultError: with the numbers.
    """
    if not count:
        raise NoResultError(f"split {split!r} has no images; check path and split")
    expected = config.expected.get(split, count)
    if count != expected:
        raise NoResultError(
            f"split {split!r} has {count:,} images, and expected says {expected:,}; complete the set, or correct "
            "expected"
        )
