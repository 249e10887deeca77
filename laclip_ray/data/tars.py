"""The members of a tar, in order: names, sizes and contents.

Reads the v7, ustar, GNU and pax formats, plain or compressed (`byte_sources`), with long names, sparse members, and
hard and symbolic links to members of the same tar. Archives that follow one another in a file (`cat a.tar b.tar`) are
read to the last.

Guarantees: nothing is allocated because a header claims it. A member's content is read only on request. Memory: 16
bytes for each member passed; about 100 in a tar with links.

Python's `tarfile` is used for the content of sparse members only. It allocates what headers claim, takes a damaged
header for the end of the archive, keeps 1 KB for each member, and takes several times as long.
"""

import io
import posixpath
import tarfile
import zlib
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

from laclip_ray.data.byte_sources import ByteSource, DamagedError, PlainSource, decompressed
from laclip_ray.data.file_kinds import describe_start

_BLOCK = 512
_END_MARK = bytes(_BLOCK)
_MARK, _MARK_POSITION = b"ustar", 257

_MAX_EXTENSION_BYTES = 2**20
"""Bytes of one extended header (long name, pax attributes, map of holes), at most."""

_MAX_END_BYTES = 2**20
"""Zero bytes after an archive, at most: the largest record that writers fill up. More are a damaged file, such as a
download into a file of the final size."""

_IMPOSSIBLE_BYTES = 2**60
"""No member has so many bytes."""

_MAX_LINKS = 32
"""Links from one to the next, at most."""

_END = -1
"""Kind of an archive's end mark. All other kinds are the type byte of the format."""
_REGULAR = b"0\x007"
_SPARSE = ord("S")
_LINKS = b"12"
_WITHOUT_CONTENT = b"123456"
"""Links, devices, directories and pipes."""
_EXTENSIONS = b"xXgLK"
_ATTRIBUTES = frozenset({b"path", b"linkpath", b"size"})
"""Pax attributes that matter here, and all that begin with `GNU.sparse.`."""


class NotATarError(DamagedError):
    """The file does not begin like a tar. The text says what the file holds."""


class HeaderError(DamagedError):
    """A header is damaged or missing. The member before it is whole."""


class Member(NamedTuple):
    """A regular member of a tar, or a link with the place of its target's content."""

    name: str
    """Invalid UTF-8 bytes are surrogates."""
    size: int
    """Bytes of the content; -1 for a link to nothing in this tar."""
    offset: int = 0
    """Position of the stored content."""
    stored: int = 0
    """Bytes of the stored content: fewer than `size` if the member is sparse."""
    sparse_header: int = -1
    """Sparse members: position of the first header."""


class _Entry(NamedTuple):
    kind: int
    end: int
    """Position of the next header; of an end mark, its own position."""
    member: Member
    link: str = ""
    """Links: the target as written."""


class TarReader:
    """Reads the members of a tar. Iterate over it once."""

    def __init__(self, file: Any) -> None:
        """Take a seekable binary file that stands at position 0.

        Raises:
            NotATarError: the file is no tar, plain or compressed.
        """
        self._source: ByteSource = PlainSource(file)
        first = self._source.read(_BLOCK)
        if not _begins_a_tar(first):
            self._source, first = _decompress(file, first)
        self._ahead = (0, first)
        """A block read ahead, and its position."""
        self._global: dict[str, str] = {}
        """Pax attributes of all following members."""
        self._names, self._offsets = array("q"), array("Q")
        """Hashes of the names passed, and the positions of their headers."""
        self._index: dict[int, int] | None = None
        """The same as a table, once there is a link."""
        self._is_scanned = False
        """Whether the table holds later members too."""

    def __iter__(self) -> Iterator[Member]:
        """The regular members and the links, in order.

        Raises:
            HeaderError: the tar ends after a whole member without an end mark, or has a damaged header.
            DamagedError: the tar ends inside a member. The last yielded member is incomplete.
            OSError: the store failed.
        """
        for offset, entry in self._entries(0):
            if entry.kind in _LINKS:
                yield self._resolve(entry)
            elif entry.kind in _REGULAR or entry.kind == _SPARSE:
                yield entry.member
            self._remember(entry, offset)

    def read(self, member: Member) -> bytes:
        """The content of a member, of any size: check it before.

        Raises:
            DamagedError: the tar ends inside the member.
            OSError: the store failed.
        """
        if member.size <= 0:
            return b""
        if member.sparse_header < 0:
            return self._read_at(member.offset, member.size)
        stored = self._read_at(member.sparse_header, member.offset + member.stored - member.sparse_header)
        archive = io.BytesIO(stored + bytes(-len(stored) % _BLOCK) + 2 * _END_MARK)
        try:
            with tarfile.open(fileobj=archive, mode="r:") as tar:
                first = tar.next()
                content = tar.extractfile(first) if first is not None and first.size <= member.size else None
                return content.read() if content is not None else b""
        except (tarfile.TarError, OSError, ValueError, ArithmeticError, AssertionError):
            return b""  # an impossible map of holes: only this member has no content

    def _entries(self, offset: int) -> Iterator[tuple[int, _Entry]]:
        """The members from a header on, each with its position, to the end of the last archive."""
        while True:
            entry = self._entry_at(offset)
            if entry.kind != _END:
                yield offset, entry
                offset = entry.end
            elif (following := self._skip_end_mark(entry.end)) is not None:
                offset = following
            else:
                return

    def _skip_end_mark(self, offset: int) -> int | None:
        """The position of the archive that follows an end mark; None at the end of the file."""
        position = offset + _BLOCK
        self._source.seek(position)
        while True:
            try:
                block = self._source.read(_BLOCK)
            except DamagedError:
                return None  # of the compressed stream, after everything that it holds
            if len(block) < _BLOCK:
                return None
            if block != _END_MARK:
                self._ahead = (position, block)
                return position
            position += _BLOCK
            if position - offset > _MAX_END_BYTES:
                raise HeaderError(f"more than {_MAX_END_BYTES:,} zero bytes where members should be")

    def _entry_at(self, offset: int) -> _Entry:
        """The member whose first header is at a position, or an end mark."""
        start = offset
        attributes = self._global
        long_name: str | None = None
        long_link: str | None = None
        while True:
            header = self._header_at(offset, is_first=offset == start)
            if header == _END_MARK and offset == start:
                return _Entry(_END, offset, Member("", 0))
            if not _is_header(header):
                raise HeaderError("a damaged header")
            kind, size = header[156], _number(header[124:136])
            offset += _BLOCK
            if kind not in _EXTENSIONS:
                break
            if size > _MAX_EXTENSION_BYTES:
                raise HeaderError(f"an extended header of {size:,} bytes")
            content = self._read_at(offset, size)
            offset += _padded(size)
            if kind == ord("L"):
                long_name = _text(content)
            elif kind == ord("K"):
                long_link = _text(content)
            elif kind == ord("g"):
                self._global = attributes = {**self._global, **_attributes(content)}
                start = offset
            else:
                attributes = {**attributes, **_attributes(content)}
        if kind == _SPARSE and header[482]:
            offset = self._skip_maps(offset)
        return _to_entry(header, start, offset, attributes, long_name, long_link)

    def _header_at(self, offset: int, is_first: bool) -> bytes:
        if self._ahead[0] == offset:
            return self._ahead[1]
        if self._source.position == offset:
            block = self._source.read(_BLOCK)
        else:  # the byte before it shows whether the content before it is whole
            self._source.seek(offset - 1)
            block = self._source.read(1 + _BLOCK)
            if not block:
                raise DamagedError("ends inside a member")
            block = block[1:]
        if len(block) < _BLOCK:
            raise HeaderError("has no end mark" if is_first and not block else "ends inside a header")
        return block

    def _skip_maps(self, offset: int) -> int:
        """The position after the blocks that continue a sparse member's header."""
        for number in range(_MAX_EXTENSION_BYTES // _BLOCK):
            block = self._read_at(offset + number * _BLOCK, _BLOCK)
            if not block[504]:
                return offset + (number + 1) * _BLOCK
        raise HeaderError(f"a map of holes of more than {_MAX_EXTENSION_BYTES:,} bytes")

    def _read_at(self, offset: int, size: int) -> bytes:
        self._source.seek(offset)
        content = self._source.read(size)
        if len(content) < size:
            raise DamagedError("ends inside a member")
        return content

    def _remember(self, entry: _Entry, offset: int) -> None:
        key = hash(entry.member.name.removeprefix("./"))
        if self._index is not None:
            self._index[key] = offset
        else:
            self._names.append(key)
            self._offsets.append(offset)

    def _resolve(self, link: _Entry) -> Member:
        """A link, with the place and size of its target's content."""
        target = link
        for _ in range(_MAX_LINKS):
            found = self._find(_target_name(target), link.end)
            if found is None:
                break
            if found.kind in _REGULAR or found.kind == _SPARSE:
                return found.member._replace(name=link.member.name)
            if found.kind not in _LINKS:
                break
            target = found
        return Member(link.member.name, -1)

    def _find(self, name: str, next_offset: int) -> _Entry | None:
        """The last member of a name before `next_offset`, else the first one after it."""
        if self._index is None:
            self._index = dict(zip(self._names, self._offsets, strict=True))
        offset = self._index.get(hash(name))
        if offset is None and not self._is_scanned:
            self._scan(next_offset)
            offset = self._index.get(hash(name))
        entry = self._entry_at(offset) if offset is not None else None
        return entry if entry is not None and entry.member.name.removeprefix("./") == name else None

    def _scan(self, offset: int) -> None:
        """Add the members from a position on to the table of names."""
        assert self._index is not None
        self._is_scanned = True
        before = self._global
        try:
            for position, entry in self._entries(offset):
                self._index.setdefault(hash(entry.member.name.removeprefix("./")), position)
        except DamagedError:
            pass  # reported when reading arrives there
        self._global = before


def _decompress(file: Any, first: bytes) -> tuple[ByteSource, bytes]:
    """The decompressed bytes of a file that does not begin like a tar, and their first block."""
    outer = describe_start(first)
    try:
        source = decompressed(file, first)
        inner = source.read(_BLOCK) if source is not None else b""
    except DamagedError as error:
        raise NotATarError(f"not a tar, but {outer} that {error}") from error
    if source is None or not _begins_a_tar(inner):
        raise NotATarError(f"not a tar, but {outer}" + (f" of {describe_start(inner)}" if source is not None else ""))
    return source, inner


def _to_entry(
    header: bytes, start: int, offset: int, attributes: dict[str, str], long_name: str | None, long_link: str | None
) -> _Entry:
    """The member of a header and its extensions.

    Args:
        header: the last header, which is the member's own.
        start: position of the first header.
        offset: position of the content.
        attributes: pax attributes.
        long_name: GNU's long name.
        long_link: GNU's long link target.
    """
    kind, stored = header[156], _number(header[124:136])
    name = _text(header[:100])
    if header[345] and kind != _SPARSE:
        name = f"{_text(header[345:500])}/{name}"
    if kind == 0 and name.endswith("/"):
        kind = ord("5")
    name, link = long_name or name, long_link or _text(header[157:257])
    size, sparse_header = stored, -1
    if attributes:
        name, link = attributes.get("path", name), attributes.get("linkpath", link)
        name = attributes.get("GNU.sparse.name", name)
        size = stored = _integer(attributes.get("size"), stored)
    if kind in _REGULAR and ("GNU.sparse.size" in attributes or "GNU.sparse.major" in attributes):
        sparse_header = start
        real_size = _integer(attributes.get("GNU.sparse.realsize", attributes.get("GNU.sparse.size")), stored)
        size = max(real_size, stored)
    elif kind == _SPARSE:
        sparse_header, size = start, max(_number(header[483:495]), stored)
    if not 0 <= stored < _IMPOSSIBLE_BYTES:
        raise HeaderError(f"a member of {stored:,} bytes")
    end = offset if kind in _WITHOUT_CONTENT else offset + _padded(stored)
    return _Entry(kind, end, Member(name.rstrip("/"), size, offset, stored, sparse_header), link)


def _target_name(link: _Entry) -> str:
    target = link.link if link.kind == ord("1") else posixpath.join(posixpath.dirname(link.member.name), link.link)
    return posixpath.normpath(target)


def first_header(content: bytes) -> int | None:
    """Position of the first header in a part of a tar that begins at a multiple of 512. None: no header.

    Only headers with the mark of ustar, GNU and pax tars are taken: the content of a member may have the checksum of a
    header by chance.
    """
    for position in range(0, len(content) - _BLOCK + 1, _BLOCK):
        if content.startswith(_MARK, position + _MARK_POSITION) and _is_header(content[position : position + _BLOCK]):
            return position
    return None


def _begins_a_tar(block: bytes) -> bool:
    return block == _END_MARK or _is_header(block)


def _is_header(block: bytes) -> bool:
    if len(block) < _BLOCK:
        return False
    try:
        expected = _number(block[148:156])
    except DamagedError:
        return False
    checked = block[:148] + b" " * 8 + block[156:]
    # The low half of Adler-32 is 1 + the sum of the bytes, modulo 65,521. It is much faster than `sum`.
    if ((zlib.adler32(checked) & 0xFFFF) - 1 - expected) % 65_521 == 0:
        return True
    return expected == sum(byte - 256 * (byte > 127) for byte in checked)  # some old writers add signed bytes


def _number(field: bytes) -> int:
    """A number field: octal digits, or 256-based after a mark."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError as error:
        raise HeaderError("a damaged header") from error


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _integer(text: str | None, otherwise: int) -> int:
    try:
        return int(text) if text is not None else otherwise
    except ValueError:
        return otherwise


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _attributes(content: bytes) -> dict[str, str]:
    """The pax attributes that matter here, of records `LENGTH KEY=VALUE` and a line break."""
    found: dict[str, str] = {}
    position = 0
    while position < len(content) and content[position]:
        length_text, _, _ = content[position : position + 20].partition(b" ")
        if not length_text.isdigit() or not len(length_text) < int(length_text) <= len(content) - position:
            raise HeaderError("a damaged extended header")
        record = content[position + len(length_text) + 1 : position + int(length_text) - 1]
        key, _, value = record.partition(b"=")
        if key in _ATTRIBUTES or key.startswith(b"GNU.sparse."):
            found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        position += int(length_text)
    return found
