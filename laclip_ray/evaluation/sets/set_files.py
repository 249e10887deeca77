"""The files below a set's path, listed once, and which layout they have."""

import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from laclip_ray import storage
from laclip_ray.data.data_files import DataFile
from laclip_ray.data.file_formats import kind_of
from laclip_ray.data.left_out import log_left_out
from laclip_ray.data.listing import find_files
from laclip_ray.data.tar_groups import IMAGE_MEMBERS
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.records import Layout
from laclip_ray.evaluation.sets.tars import COUNT_FILE, TYPE_FILE
from laclip_ray.tally import Tally, first_names

logger = logging.getLogger(__name__)

CLASS_NAMES_FILE, TEMPLATES_FILE = "classnames.txt", "zeroshot_classification_templates.txt"
"""In the directory of a set of any layout: its own class names and templates."""

_BY_FILES: tuple[Layout, ...] = ("parquet", "csv", "webdataset")
_LAYOUTS: dict[str, Layout] = {"parquet": "parquet", "csv": "csv", "tsv": "csv", "webdataset": "webdataset"}
"""By the format of a file."""
_LOOKED_FOR = (
    f"SPLIT/{COUNT_FILE} and tars (webdataset), image files in directories named by class (folders), Parquet files "
    "(parquet), CSV or TSV files (csv)"
)


@dataclass(frozen=True)
class SetFiles:
    """The files below a path."""

    path: str
    """A directory or a file."""
    where: str
    """Begins a message."""
    setting: str
    """The config key of the path, without `.path`."""

    @cached_property
    def all(self) -> list[DataFile]:
        """Every file, sorted by name. Hidden and unfinished ones are left out.

        Raises:
            UserError: the path does not exist.
        """
        left_out = Tally()
        (files,) = find_files([self.path], self.setting, left_out).values()
        log_left_out(left_out, self.setting, len(files))
        return sorted(files, key=lambda file: file.name)

    @cached_property
    def images(self) -> list[DataFile]:
        """The image files, by their names."""
        return [file for file in self.all if _extension(file.name) in IMAGE_MEMBERS]

    @cached_property
    def _others(self) -> list[tuple[DataFile, Layout | None]]:
        """The files that are no images, with the layout that such a file tells."""
        others = (file for file in self.all if _extension(file.name) not in IMAGE_MEMBERS)
        return [(file, _LAYOUTS.get(kind_of(file.url).format or "")) for file in others]

    def of_layout(self, layout: Layout) -> list[DataFile]:
        """The tars, the Parquet files, or the CSV and TSV files."""
        return [file for file, of_file in self._others if of_file == layout]

    def hold(self, name: str) -> bool:
        """Whether some directory of the listing holds a file of this name."""
        return any(storage.name_of(file.name) == name for file, _ in self._others)

    def has(self, name: str) -> bool:
        """Whether the set's directory holds a file, without a listing."""
        try:
            return storage.exists(self.url_of(name))
        except PermissionError:  # S3 says so of a missing object to clients that may not list its directory
            return False

    def url_of(self, name: str) -> str:
        """The place of a file below the path."""
        return storage.join(self.path, name)

    def describe(self) -> str:
        """The number of files of each kind, for messages."""
        if not self.all:
            return "no files, except hidden ones"
        counts = Counter(_extension(file.name) for file in self.all)
        return ", ".join(f"{count:,} .{extension}" if extension else f"{count:,} without an extension"
                         for extension, count in counts.most_common(5))  # fmt: skip


def class_directory(name: str, splits: Collection[str]) -> str:
    """The class directory of an image file: SPLIT/CLASS/... or CLASS/...; empty without one.

    >>> [class_directory(name, ["test"]) for name in ("test/owl/1.jpg", "owl/1.jpg", "1.jpg")]
    ['owl', 'owl', '']
    """
    *directories, _ = name.split("/")
    if directories and directories[0] in splits:
        return directories[1] if len(directories) > 1 else ""
    return directories[0] if directories else ""


def find_layout(files: SetFiles, splits: Collection[str]) -> Layout:
    """Decide the layout of a set by its files.

    Args:
        files: the set's.
        splits: the splits to read.

    Raises:
        UserError: the files have no layout, or more than one.
    """
    if any(files.has(f"{split}/{COUNT_FILE}") for split in splits):
        return "webdataset"
    if files.hold(COUNT_FILE):
        return "webdataset"
    found: list[Layout] = [layout for layout in _BY_FILES if files.of_layout(layout)]
    if len({class_directory(file.name, splits) for file in files.images} - {""}) > 1 or (files.images and not found):
        found.append("folders")
    if len(found) == 1:
        return found[0]
    if not found and any(files.has(name) for name in (CLASS_NAMES_FILE, TEMPLATES_FILE, TYPE_FILE)):
        return "webdataset"
    if found:
        raise UserError(
            f"{files.where}: {files.path} may be of several layouts ({', '.join(found)}): it holds {files.describe()}. "
            "Set layout"
        )
    raise UserError(
        f"{files.where}: {files.path} is of no known layout: it holds {files.describe()}. Looked for {_LOOKED_FOR}"
    )


def _extension(name: str) -> str:
    stem, dot, extension = storage.name_of(name).rpartition(".")
    return extension.lower() if dot and stem else ""


def list_names(names: Collection[str]) -> str:
    """Sorted names for a message."""
    return first_names(sorted(names)) or "none"
