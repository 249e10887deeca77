"""Labelled images for zero-shot classification, in CLIP_benchmark's WebDataset layout. For a set at PATH:

    PATH/classnames.txt                         a class name a line; a blank line is a class without a name
    PATH/zeroshot_classification_templates.txt  a template a line, `{c}` for the class name
    PATH/dataset_type.txt                       optional; says `retrieval` or `multilabel` of sets of another kind
    PATH/SPLIT/nshards.txt                      the number of shards
    PATH/SPLIT/N.tar                            members KEY.(jpg|png|webp) and KEY.cls, the class's line number from 0

Images are read as CLIP_benchmark reads them: EXIF orientation is ignored. Unlike there, transparent images are laid on
white, and 16-bit images keep their grey levels.

Samples and shards that cannot be read are counted by reason and named. They never stop an evaluation.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch

from laclip_ray import storage
from laclip_ray.config import LabelledConfig
from laclip_ray.data.image_formats import DEFAULT_LIMITS
from laclip_ray.data.records import IMAGE_MISSING
from laclip_ray.data.tar_groups import Group, Reading, read_groups
from laclip_ray.errors import UserError
from laclip_ray.evaluation.coverage import Coverage, NoResultError
from laclip_ray.evaluation.pixels import Transform, pixels_or_reason

logger = logging.getLogger(__name__)

LABEL_UNUSABLE = "label_unusable"
"""Reason to skip a sample: its label is missing, or neither the number nor the name of a class."""

RETRIEVAL_TYPE, MULTILABEL_TYPE = "retrieval", "multilabel"
"""Contents of `dataset_type.txt`. All others mean classification."""


@dataclass(frozen=True)
class LabelledSet:
    """A zero-shot classification set."""

    name: str
    class_names: list[str]
    """Indexed by label. A name may be empty."""
    templates: list[str]
    """Prompts with `{c}` for the class name."""
    shards: list[str]
    """URLs of tar files."""

    @cached_property
    def label_of_name(self) -> dict[str, int]:
        """The label of each class name that only one class has."""
        counts = Counter(self.class_names)
        return {name: label for label, name in enumerate(self.class_names) if counts[name] == 1}


def open_labelled_set(config: LabelledConfig) -> LabelledSet:
    """Find a set's files.

    Raises:
        UserError: a file of the layout is missing, empty or not UTF-8, or the set is of another kind.
    """
    where = f"evaluate.labelled: {config.name}"
    kind = dataset_type(config.path, where)
    if kind == RETRIEVAL_TYPE:
        raise UserError(
            f"{where}: {config.path} is a retrieval set (dataset_type.txt); name it under evaluate.retrieval, with "
            f"data.path={storage.join(config.path, config.split)}"
        )
    if kind == MULTILABEL_TYPE:
        raise UserError(
            f"{where}: {config.path} has several labels an image (dataset_type.txt: multilabel); zero-shot accuracy "
            "needs one label an image"
        )
    templates = [line for line in _lines(config.path, "zeroshot_classification_templates.txt", where) if line]
    for template in templates:
        if "{c}" not in template:
            raise UserError(f"{where}: the template {template!r} has no {{c}}")
    return LabelledSet(config.name, _lines(config.path, "classnames.txt", where), templates, _shards(config, where))


def dataset_type(path: str, where: str) -> str | None:
    """The content of `dataset_type.txt` in a directory, in lower case; None if there is none.

    Args:
        path: the directory.
        where: begins a message.

    Raises:
        UserError: the file is not UTF-8.
    """
    url = storage.join(path, "dataset_type.txt")
    try:
        return _read_text(url, where).strip().lower() if storage.exists(url) else None
    except PermissionError:  # S3 says so of a missing object to clients that may not list its directory
        return None


def _read_text(url: str, where: str) -> str:
    content = storage.read_bytes(url)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}: {url} is not UTF-8 (line {line}); save it as UTF-8") from error


def _lines(path: str, name: str, where: str) -> list[str]:
    """The stripped lines of a file, without blank ones at its end."""
    url = storage.join(path, name)
    if not storage.exists(url):
        raise UserError(f"{where}: {url} does not exist")
    lines = [line.strip() for line in _read_text(url, where).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise UserError(f"{where}: {url} is empty")
    return lines


def _shards(config: LabelledConfig, where: str) -> list[str]:
    count_line = next(filter(None, _lines(config.path, f"{config.split}/nshards.txt", where)))
    if not (count_line.isascii() and count_line.isdigit()):
        raise UserError(f"{where}: {config.split}/nshards.txt holds {count_line[:100]!r}; it must hold a number")
    shards: list[str] = []
    while len(shards) < int(count_line):
        shards.append(storage.join(config.path, config.split, f"{len(shards)}.tar"))
        if not storage.exists(shards[-1]):
            raise UserError(f"{where}: {shards[-1]} does not exist, and nshards.txt says {count_line} shards")
    following = storage.join(config.path, config.split, f"{len(shards)}.tar")
    if storage.exists(following):
        logger.warning("%s: %s is not read, because nshards.txt says %s shards", where, following, count_line)
    return shards


@dataclass
class _Labels:
    """Reads labels, and remembers what tells 1-based numbers from damaged ones."""

    labelled: LabelledSet
    _seen: set[int] = field(default_factory=set)

    def read(self, sample: Group) -> int | None:
        """The label of a sample; None if it is not usable.

        Raises:
            NoResultError: the sample has several labels.
        """
        members = sample.members
        if "cls" not in members and "npy" in members:
            raise NoResultError(
                "its samples have several labels (npy members); zero-shot accuracy needs one label an image (cls)"
            )
        text = (members.get("cls") or b"").strip().decode("utf-8", "replace").removeprefix("\ufeff")
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            return self.labelled.label_of_name.get(text) if text else None
        self._seen.add(int(text))
        return int(text) if int(text) < len(self.labelled.class_names) else None

    def check(self) -> None:
        """Refuse labels that count from 1.

        Raises:
            NoResultError: a label equals the number of classes, and none is 0.
        """
        classes = len(self.labelled.class_names)
        if classes in self._seen and 0 not in self._seen:
            raise NoResultError(
                f"its labels count from 1: {classes} is a label, 0 is none, and classnames.txt has {classes} lines. "
                "Write labels that count from 0"
            )


def labelled_images(
    labelled: LabelledSet, transform: Transform, coverage: Coverage
) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield (pixels [3, H, W], label) of every usable image of a set, and record the other samples.

    Args:
        labelled: from `open_labelled_set`.
        transform: an image to pixels.
        coverage: counts the samples.

    Raises:
        NoResultError: the labels are of another kind, or the storage refuses a shard.
    """
    labels = _Labels(labelled)
    for url in labelled.shards:
        for group in coverage.read_shard(storage.name_of(url), _groups_of(url)):
            label = labels.read(group)
            pixels = _pixels_or_reason(group, transform)
            if isinstance(pixels, str):
                coverage.skip(pixels, group.key)
            elif label is None:
                coverage.skip(LABEL_UNUSABLE, group.key)
            else:
                coverage.used += 1
                yield pixels, label
    labels.check()


def _groups_of(url: str) -> Iterator[Group]:
    fs, path = storage.filesystem(url)
    with fs.open(path, "rb") as file:
        yield from read_groups(file, Reading(images=True))


def _pixels_or_reason(group: Group, transform: Transform) -> torch.Tensor | str:
    if group.image is None:
        return IMAGE_MISSING
    if reason := group.problems.get(group.image):
        return reason
    return pixels_or_reason(group.members[group.image], transform, DEFAULT_LIMITS, exif=False)
