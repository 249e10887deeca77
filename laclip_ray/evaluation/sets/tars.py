"""Labelled sets in CLIP_benchmark's WebDataset layout. For a set at PATH:

    PATH/classnames.txt                         a class name a line; a blank line is a class without a name
    PATH/zeroshot_classification_templates.txt  a template a line, `{c}` for the class name
    PATH/dataset_type.txt                       optional; says `retrieval` or `multilabel` of sets of another kind
    PATH/SPLIT/nshards.txt                      the number of shards
    PATH/SPLIT/N.tar                            members KEY.(jpg|png|webp) and KEY.cls, the class's line number from 0

An image with several labels has KEY.npy instead of KEY.cls (`label_arrays`).
"""

import logging
from collections.abc import Iterator

from laclip_ray import storage
from laclip_ray.config import LabelledConfig
from laclip_ray.data.records import IMAGE_MISSING, MAX_ROW_BYTES, MEMBER_TOO_LARGE
from laclip_ray.data.tar_groups import Group, Reading, read_groups
from laclip_ray.data.tars import Member
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.label_arrays import label_of_array
from laclip_ray.evaluation.sets.records import LabelledImage, LabelledShard, label_text
from laclip_ray.evaluation.sets.text_lists import read_lines, read_text

logger = logging.getLogger(__name__)

COUNT_FILE = "nshards.txt"
"""In the directory of each split: the number of its shards."""

TYPE_FILE = "dataset_type.txt"

RETRIEVAL_TYPE, MULTILABEL_TYPE = "retrieval", "multilabel"
"""Contents of `dataset_type.txt`. All others mean classification."""

_CLASS, _ARRAY = "cls", "npy"


def dataset_type(path: str, where: str) -> str | None:
    """The content of `dataset_type.txt` in a directory, in lower case; None if there is none.

    Args:
        path: the directory.
        where: begins a message.

    Raises:
        UserError: the file is not UTF-8.
    """
    url = storage.join(path, TYPE_FILE)
    try:
        return read_text(url, where).strip().lower() if storage.exists(url) else None
    except PermissionError:  # S3 says so of a missing object to clients that may not list its directory
        return None


def check_type(config: LabelledConfig, path: str, where: str) -> None:
    """Refuse a set whose `dataset_type.txt` says that it has captions, or several labels an image.

    Raises:
        UserError: the set is of another kind.
    """
    kind = dataset_type(path, where)
    if kind == RETRIEVAL_TYPE:
        raise UserError(
            f"{where}: {path} is a retrieval set ({TYPE_FILE}); name it under evaluate.retrieval, with "
            f"data.path={storage.join(path, config.split)}"
        )
    if kind == MULTILABEL_TYPE and config.metric != "map":
        raise UserError(
            f"{where}: {path} has several labels an image ({TYPE_FILE}: multilabel); set metric: map, the mean average "
            "precision"
        )


def open_tars(config: LabelledConfig, path: str, where: str) -> dict[str, list[LabelledShard]]:
    """The shards of each split.

    Args:
        config: the set.
        path: its directory.
        where: begins a message.

    Raises:
        UserError: a file of the layout is missing, empty or not UTF-8.
    """
    return {split: _shards(config, path, split, where) for split in config.splits}


def _shards(config: LabelledConfig, path: str, split: str, where: str) -> list[LabelledShard]:
    count_line = next(filter(None, read_lines(storage.join(path, split, COUNT_FILE), where)))
    if not (count_line.isascii() and count_line.isdigit()):
        raise UserError(f"{where}: {split}/{COUNT_FILE} holds {count_line[:100]!r}; it must hold a number")
    label = _ARRAY if config.metric == "map" else _CLASS
    shards: list[LabelledShard] = []
    while len(shards) < int(count_line):
        url = storage.join(path, split, f"{len(shards)}.tar")
        try:
            identity = storage.identity(url)
        except FileNotFoundError as error:
            raise UserError(f"{where}: {url} does not exist, and {COUNT_FILE} says {count_line} shards") from error
        shards.append(LabelledShard(storage.name_of(url), url, "webdataset", identity, label_column=label))
    following = storage.join(path, split, f"{len(shards)}.tar")
    if storage.exists(following):
        logger.warning("%s: %s is not read, because %s says %s shards", where, following, COUNT_FILE, count_line)
    return shards


class _LabelReading(Reading):
    """Reads arrays, too."""

    __slots__ = ()

    def wants(self, extension: str) -> bool:
        return extension == _ARRAY or super().wants(extension)

    def problem(self, extension: str, member: Member) -> str | None:
        if extension == _ARRAY and member.size > MAX_ROW_BYTES:
            return MEMBER_TOO_LARGE
        return super().problem(extension, member)


def read_tar(shard: LabelledShard) -> Iterator[LabelledImage]:
    """Read the images of a tar in its order.

    Raises:
        NotATarError: the file is not a tar.
        DamagedError: the tar ends early, or has a damaged header. All whole samples are given before.
        OSError: the storage failed.
    """
    fs, path = storage.filesystem(shard.url)
    with fs.open(path, "rb") as file:
        for group in read_groups(file, _LabelReading(images=True)):
            yield _to_image(group, shard.label_column)


def _to_image(group: Group, preferred: str) -> LabelledImage:
    label = _label(group, preferred)
    if group.image is None:
        return LabelledImage(group.key, None, label, IMAGE_MISSING)
    image = group.members[group.image]
    problem = group.problems.get(group.image, "" if image else IMAGE_MISSING)
    return LabelledImage(group.key, None if problem else image, label, problem)


def _label(group: Group, preferred: str) -> str:
    """The raw label of a sample, from the preferred member if it has that, else from the other."""
    members = group.members
    of_array = _ARRAY in members and (preferred == _ARRAY or _CLASS not in members)
    if of_array:
        return label_of_array(members[_ARRAY] or b"")
    text = (members.get(_CLASS) or b"").strip().decode("utf-8", "replace")
    return label_text(text.removeprefix("\ufeff"))
