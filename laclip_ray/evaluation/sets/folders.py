"""Labelled sets as directories of image files: SPLIT/CLASS/IMAGE, or CLASS/IMAGE if only one split is read.

As in torchvision's ImageFolder, the class is the first directory, whatever lies between it and the image, and classes
are in the order of the sorted directory names. Unlike there, directories named by the numbers from 0 are in their order
(ImageNet V2), and the classes of all splits that are read are joined, so a label means the same in each.

Linked directories are followed, wherever they lead: the files are those of a listing, not of a table.
"""

import logging
import posixpath
from collections.abc import Iterator, Sequence
from hashlib import blake2b

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.data_files import DataFile, identity_of_file
from laclip_ray.data.image_sources import ImageSource, images_in_order
from laclip_ray.data.records import clean_id
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.class_labels import sorted_texts
from laclip_ray.evaluation.sets.records import LabelledImage, LabelledShard, OpenedLayout
from laclip_ray.evaluation.sets.set_files import SetFiles, class_directory, list_names

logger = logging.getLogger(__name__)

_FILES_OF_SHARD = 1_000


def open_folders(files: SetFiles, splits: Sequence[str]) -> OpenedLayout:
    """The splits of a set and its classes.

    Args:
        files: the set's.
        splits: those to read.

    Raises:
        UserError: a split has no class directories.
    """
    images = {split: [file for file in files.images if _is_in(file.name, split)] for split in splits}
    prefixes = {split: split for split in splits}
    if not any(images.values()) and len(splits) == 1:
        images, prefixes = {splits[0]: _without_splits(files, splits[0])}, {splits[0]: ""}
    for split, of_split in images.items():
        if not of_split:
            raise UserError(
                f"{files.where}: {files.path} has no images of split {split!r} in {split}/CLASS/; its directories are "
                f"{list_names(_directories(files))}"
            )
    if outside := len(files.images) - sum(map(len, images.values())):
        logger.info("%s: %d images of other splits, or outside class directories, are not read", files.where, outside)
    classes = {
        clean_id(_class_of(file.name, prefixes[split])) for split, of_split in images.items() for file in of_split
    }
    shards = {split: shards_of_files(files, of_split, prefixes[split]) for split, of_split in images.items()}
    return OpenedLayout(shards, None, tuple(sorted_texts(classes)))


def _is_in(name: str, split: str) -> bool:
    return name.startswith(f"{split}/") and name.count("/") - split.count("/") >= 2


def _without_splits(files: SetFiles, split: str) -> list[DataFile]:
    """The images of a set without a directory for each split."""
    images = [file for file in files.images if "/" in file.name]
    if images and all(file.name.count("/") > 1 for file in images):  # SPLIT/CLASS/IMAGE, but of other splits
        raise UserError(
            f"{files.where}: {files.path} has no directory of split {split!r}; its directories are "
            f"{list_names(_directories(files))}. Set split to one of them, or path to the directory of the classes"
        )
    return images


def _directories(files: SetFiles) -> set[str]:
    return {class_directory(file.name, ()) for file in files.images} - {""}


def _class_of(name: str, prefix: str) -> str:
    return name[len(prefix) :].lstrip("/").split("/")[0]


def shards_of_files(files: SetFiles, images: Sequence[DataFile], prefix: str = "") -> list[LabelledShard]:
    """Image files in shards of a thousand.

    Args:
        files: the directory's.
        images: those to read.
        prefix: the directory that class directories lie in.
    """
    shards = []
    for start in range(0, len(images), _FILES_OF_SHARD):
        chosen = images[start : start + _FILES_OF_SHARD]
        digest = blake2b(digest_size=16)
        for file in chosen:
            digest.update(f"{file.name}\0{identity_of_file(file)}\n".encode("utf-8", "surrogateescape"))
        shards.append(
            LabelledShard(
                name=f"images.{start:09d}",
                url=files.path,
                layout="folders",
                identity=digest.hexdigest(),
                split=prefix,
                files=tuple(file.name for file in chosen),
            )
        )
    return shards


def read_folder(shard: LabelledShard) -> Iterator[LabelledImage]:
    """Read the images of a shard in the order of their paths. Remote files are fetched in parallel.

    Raises:
        OSError: the storage failed.
    """
    _, root = storage.filesystem(shard.url)
    is_local = storage.is_local(shard.url)
    # The listing followed links. So may reading.
    config = DataConfig(path=shard.url, image_root="/" if is_local else shard.url)
    source = ImageSource(storage.join(shard.url, "listing"), config)

    def place_of(name: str) -> str:
        return posixpath.join(root, name) if is_local else name

    for name, image in images_in_order(shard.files, place_of, source):
        label = clean_id(_class_of(name, shard.split))
        if isinstance(image, str):
            yield LabelledImage(clean_id(name), None, label, image)
        else:
            yield LabelledImage(clean_id(name), image, label)
