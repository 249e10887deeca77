"""The samples of a tar: consecutive members that share a key.

**Keys.** As in WebDataset, the key ends at the first dot of a member's file name, and the rest is its extension:
`a.seg.png` is the member `seg.png` of the sample `a`. Names such as `img.v1.0001.jpg` have dots in their keys. Where no
member of a key has a known extension (`KNOWN_EXTENSIONS`), the key ends at the first later dot after which a member has
one. The decision takes the names and sizes of at most `_LOOK_AHEAD_MEMBERS` members, so it does not depend on the
wanted columns. It holds until the part of the name before the first dot changes.

Guarantees: a sample with a member of a known extension has WebDataset's key. Members larger than the limits are never
read.
"""

import posixpath
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from laclip_ray.data.byte_sources import DamagedError
from laclip_ray.data.image_formats import DEFAULT_LIMITS, IMAGE_TOO_LARGE
from laclip_ray.data.records import CAPTION_MISSING, IMAGE_MISSING, MAX_ROW_BYTES, MEMBER_TOO_LARGE, clean_id
from laclip_ray.data.tars import HeaderError, Member, TarReader

IMAGE_MEMBERS = (
    *("jpg", "jpeg", "png", "webp", "jpe", "jfif", "gif", "bmp", "dib", "tif", "tiff", "avif"),
    *("ppm", "pgm", "pbm", "pnm"),
)
"""Extensions of image members; a sample with several uses the first of these."""

TEXT_MEMBERS = ("txt", "json", "cls")
"""Extensions of captions, fields and labels."""

KNOWN_EXTENSIONS = frozenset((*IMAGE_MEMBERS, *TEXT_MEMBERS))

_RANKS = {extension: rank for rank, extension in enumerate(IMAGE_MEMBERS)}

MAX_OTHER_BYTES = 2**30
"""Bytes of a member with another extension, at most."""

_LOOK_AHEAD_MEMBERS = 32
"""Members of one key among which a known extension is searched. Samples have fewer members."""
_LOOK_AHEAD_BYTES = 128 * 2**20
"""Bytes of these members, about."""


class Reading(NamedTuple):
    """Which members are read."""

    images: bool
    """Image members: of each sample only the one that it uses, unless `others`."""
    others: bool = False
    """Members of every extension."""
    max_image_bytes: int = DEFAULT_LIMITS.max_bytes

    def wants(self, extension: str) -> bool:
        """Whether members of an extension are read."""
        return self.others or extension in TEXT_MEMBERS or (self.images and extension in _RANKS)

    def problem(self, extension: str, member: Member) -> str | None:
        """Why a member cannot be used, by its extension and size; None if it can."""
        if member.size < 0:
            return IMAGE_MISSING if extension in _RANKS else CAPTION_MISSING
        if extension in _RANKS:
            return IMAGE_TOO_LARGE if member.size > self.max_image_bytes else None
        limit = MAX_ROW_BYTES if extension in TEXT_MEMBERS else MAX_OTHER_BYTES
        return MEMBER_TOO_LARGE if member.size > limit else None


@dataclass(slots=True)
class Group:
    """The members of one sample."""

    key: str
    members: dict[str, bytes | None] = field(default_factory=dict)
    """Content by extension; None: not read, or not usable."""
    problems: dict[str, str] = field(default_factory=dict)
    """Why a member cannot be used, by extension."""
    image: str | None = None
    """The image member that the sample uses."""

    @property
    def is_too_large(self) -> bool:
        """Whether a member is larger than the limits."""
        return not {IMAGE_TOO_LARGE, MEMBER_TOO_LARGE}.isdisjoint(self.problems.values())


def read_groups(file: Any, reading: Reading) -> Iterator[Group]:
    """Read the samples of a tar in order.

    A repeated extension starts a new sample with the same key.

    Args:
        file: the tar, open for reading, plain or compressed.
        reading: which members to read.

    Raises:
        NotATarError: the file is not a tar.
        DamagedError: the tar ends early, or has a damaged header. All whole samples are yielded before.
        OSError: the store failed.
    """
    parts = _Parts(TarReader(file), reading)
    keys = _Keys(parts)
    group: Group | None = None
    while (part := parts.next()) is not None:
        key, extension = keys.split(part, group)
        if group is None or key != group.key or extension in group.members:
            if group is not None:
                yield group
            group = Group(key)
        parts.add(group, part, extension)
    # If the tar ends inside a member, its sample is not whole. A claim of too many bytes is reported all the same.
    if group is not None and (parts.damage is None or isinstance(parts.damage, HeaderError) or group.is_too_large):
        yield group
    if parts.damage is not None:
        raise parts.damage


class _Part:
    """A member with the parts of its name."""

    __slots__ = ("base", "content", "damage", "directory", "extension", "member", "stem")

    def __init__(self, member: Member) -> None:
        name = clean_id(member.name)
        start = name.rfind("/") + 1
        directory = name[:start]
        if directory.endswith("//"):
            directory = posixpath.join(posixpath.dirname(name), "")
        self.member = member
        self.directory = directory
        self.base = name[start:]
        self.stem, _, extension = self.base.partition(".")
        self.extension = extension.lower()
        """Everything after the first dot."""
        self.content: bytes | None = None
        """Set if the member was read ahead."""
        self.damage: DamagedError | None = None
        """Set if reading ahead failed here."""

    def split(self, dot: int) -> tuple[str, str]:
        """The key if it ends at the dot of this number, from 1, and the extension; empty without such a dot."""
        if dot == 1:
            return self.directory + self.stem, self.extension
        pieces = self.base.split(".", dot)
        return self.directory + ".".join(pieces[:dot]), pieces[dot].lower() if len(pieces) > dot else ""


class _Parts:
    """The members of samples in order, and the members read ahead."""

    def __init__(self, tar: TarReader, reading: Reading) -> None:
        self._tar = tar
        self._members = iter(tar)
        self._reading = reading
        self._ahead: deque[_Part] = deque()
        self._found_damage: DamagedError | None = None
        """Behind the members read ahead."""
        self.damage: DamagedError | None = None
        """Once set, there are no more parts."""

    def next(self) -> _Part | None:
        """The next part; None at the end, or after damage."""
        if self._ahead:
            return self._ahead.popleft()
        part = self._advance() if self.damage is None else None
        self.damage = self.damage or (self._found_damage if part is None else None)
        return part

    def add(self, group: Group, part: _Part, extension: str) -> None:
        """Add the part that `next` gave last to its sample, with its content if it is wanted."""
        group.members[extension] = None
        problem = self._reading.problem(extension, part.member)
        if problem is not None:
            group.problems[extension] = problem
        is_used = self._use_image(group, extension) if extension in _RANKS else True
        if problem is None and is_used and self._reading.wants(extension):
            group.members[extension] = self._content(part)

    def _use_image(self, group: Group, extension: str) -> bool:
        """Whether an image member is read. The sample uses the one of the lowest rank."""
        before = group.image
        if before is None or _RANKS[extension] < _RANKS[before]:
            group.image = extension
            if before is not None and not self._reading.others:
                group.members[before] = None
            return True
        return self._reading.others

    def _content(self, part: _Part) -> bytes | None:
        if part.content is None and part.damage is None:
            self._read(part)
        if part.damage is not None:
            self.damage = part.damage
            self._ahead.clear()
        return part.content

    def _read(self, part: _Part) -> None:
        try:
            part.content = self._tar.read(part.member)
        except DamagedError as error:
            part.damage = error

    def _advance(self) -> _Part | None:
        """The next part of the tar that belongs to a sample."""
        try:
            for member in self._members if self._found_damage is None else ():
                part = _Part(member)
                if part.stem and part.extension:
                    return part
        except DamagedError as error:
            self._found_damage = error
        return None

    def look_ahead(self, first: _Part) -> Iterator[_Part]:
        """The parts after `first` that have its key by the first dot, at most `_LOOK_AHEAD_MEMBERS`."""
        key = first.split(1)[0]
        window_bytes = 0
        for number in range(_LOOK_AHEAD_MEMBERS):
            if number == len(self._ahead) and not self._read_ahead():
                return
            part = self._ahead[number]
            window_bytes += max(part.member.size, 0)
            if part.split(1)[0] != key or window_bytes > _LOOK_AHEAD_BYTES:
                return
            yield part

    def _read_ahead(self) -> bool:
        """Add a part to those read ahead, unless there is none."""
        if self._ahead and self._ahead[-1].damage is not None:
            return False
        part = self._advance()
        if part is None:
            return False
        extension = part.extension.rpartition(".")[2]
        if self._reading.problem(extension, part.member) is None and self._reading.wants(extension):
            self._read(part)
        self._ahead.append(part)
        return True


class _Keys:
    """Decides where the key of each part ends."""

    def __init__(self, parts: _Parts) -> None:
        self._parts = parts
        self._dot = 1
        """Where the key of the current sample ends."""
        self._dotted_key = ""
        """The key by the first dot of members whose keys have dots."""
        self._dotted_end = 1
        """Where the last of these keys ended."""

    def split(self, part: _Part, group: Group | None) -> tuple[str, str]:
        """The key and the extension of a part. `group`: the sample before it."""
        if group is not None:
            key, extension = part.split(self._dot)
            is_dotted = self._dot == 1 and key == self._dotted_key and extension not in KNOWN_EXTENSIONS
            if key == group.key and extension and not is_dotted and extension not in group.members:
                return key, extension
        self._dot = self._find_end(part)
        return part.split(self._dot)

    def _find_end(self, first: _Part) -> int:
        if first.extension in KNOWN_EXTENSIONS:
            return 1
        key = first.split(1)[0]
        is_dotted = key == self._dotted_key
        if not is_dotted and ("." not in first.extension or self._is_known(first)):
            return 1
        window = [first, *self._parts.look_ahead(first)]
        for dot in range(2, first.base.count(".") + 1):
            key_here = first.split(dot)[0]
            for part in window:
                other_key, extension = part.split(dot)
                if other_key != key_here:
                    break
                if extension in KNOWN_EXTENSIONS:
                    self._dotted_key, self._dotted_end = key, dot
                    return dot
        return min(self._dotted_end, first.base.count(".")) if is_dotted else 1

    def _is_known(self, first: _Part) -> bool:
        """Whether a member of the first part's key by the first dot has a known extension."""
        return any(part.extension in KNOWN_EXTENSIONS for part in self._parts.look_ahead(first))
