"""The sizes of the frames that an AVIF holds, from the headers of its AV1 data.

The size in an AVIF's container is only a claim: the decoder allocates frames by their own headers, and then scales
them to the claimed size.

Formats: ISO/IEC 14496-12 (boxes, item locations), and the AV1 specification, 5.3 and 5.5 (units, sequence header).

Not covered: a second sequence header within the data of one item.
"""

from collections.abc import Iterator
from itertools import islice

Span = tuple[int, int]
"""First byte, and the byte after the last one."""

_PATH_TO_SAMPLES = (b"trak", b"mdia", b"minf", b"stbl")
"""Boxes around the sample offsets of a track, from the outermost one."""
_MAX_BOXES = 10_000
_MAX_PLACES = 2**17
"""Places of AV1 data examined at most. A picture may be a grid of 65,536 cells, each with transparency."""
_MAX_EXTENTS = 16
"""Extents of an item examined at most, for its first bytes."""
_HEADER_BYTES = 512
"""Bytes of each place examined at most. A sequence header has fewer than 100."""
_SEQUENCE_HEADER = 1
_BEFORE_FRAMES = frozenset((2, 5, 15))
"""Units that may precede a sequence header: temporal delimiter, metadata, padding."""


def frame_sizes(content: bytes) -> Iterator[tuple[int, int]]:
    """Width and height of the largest frame in each piece of AV1 data, as far as the file can be parsed."""
    for data in islice(_Boxes(content).data_starts(), _MAX_PLACES):
        if (size := _frame_size(data)) is not None:
            yield size


class _Boxes:
    """The boxes of a file, up to `_MAX_BOXES` in all."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._left = _MAX_BOXES

    def data_starts(self) -> Iterator[bytes]:
        """The first bytes of each item, and of the first sample of each track."""
        whole = (0, len(self._content))
        for name, span in self._within(whole):
            if name == b"meta":
                children = dict(self._within((span[0] + 4, span[1])))
                if b"iloc" in children:
                    yield from _item_starts(self._content, children[b"iloc"], children.get(b"idat", whole)[0])
            elif name == b"moov":
                for offset in self._sample_offsets(span, _PATH_TO_SAMPLES):
                    yield self._content[offset : offset + _HEADER_BYTES]

    def _within(self, span: Span) -> Iterator[tuple[bytes, Span]]:
        """Names and contents of the boxes in a span."""
        position, end = span
        while position + 8 <= end and self._left > 0:
            self._left -= 1
            size, name = self._number(position, 4), self._content[position + 4 : position + 8]
            header = 8
            if size == 1:
                size, header = self._number(position + 8, 8), 16
            elif size == 0:
                size = end - position
            if size < header:
                return
            yield name, (position + header, min(position + size, end))
            position += size

    def _sample_offsets(self, span: Span, path: tuple[bytes, ...]) -> Iterator[int]:
        for name, inner in self._within(span):
            if path and name == path[0]:
                yield from self._sample_offsets(inner, path[1:])
            elif not path and name in (b"stco", b"co64"):
                yield self._number(inner[0] + 8, 4 if name == b"stco" else 8)

    def _number(self, start: int, size: int) -> int:
        return int.from_bytes(self._content[start : start + size], "big")


def _item_starts(content: bytes, span: Span, idat: int) -> Iterator[bytes]:
    """The first bytes of each item in an item location box. `idat`: where data within the box `meta` begins."""
    fields = _Fields(content, span)
    version = fields.number(1)
    fields.number(3)
    offset_size, length_size = divmod(fields.number(1), 16)
    base_size, index_size = divmod(fields.number(1), 16)
    index_size = index_size if version else 0
    wide = 4 if version == 2 else 2
    for _ in range(fields.number(wide)):
        fields.number(wide)
        is_in_idat = bool(version and fields.number(2) & 15 == 1)
        fields.number(2)
        base = fields.number(base_size) + (idat if is_in_idat else 0)
        extents = fields.number(2)
        data = b""
        for _ in range(min(extents, _MAX_EXTENTS)):
            fields.number(index_size)
            start = base + fields.number(offset_size)
            length = fields.number(length_size) or len(content)
            data += content[start : start + min(length, _HEADER_BYTES - len(data))]
        fields.number(max(0, extents - _MAX_EXTENTS) * (index_size + offset_size + length_size))
        if fields.is_past_end:
            return
        yield data


class _Fields:
    """Reads big-endian numbers one after the other; 0 past the end. Skips what is longer than 8 bytes."""

    def __init__(self, content: bytes, span: Span) -> None:
        self._content = content
        self._position, self._end = span

    @property
    def is_past_end(self) -> bool:
        return self._position > self._end

    def number(self, size: int) -> int:
        start = self._position
        self._position += size
        is_within = self._position <= self._end and size <= 8
        return int.from_bytes(self._content[start : self._position], "big") if is_within else 0


def _frame_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in the sequence header at the start of AV1 data; None without one."""
    position = 0
    while position < len(data):
        header = data[position]
        kind, has_extension, has_size = header >> 3 & 15, header & 4, header & 2
        position += 2 if has_extension else 1
        size = len(data) - position
        if has_size:
            size = 0
            for shift in range(0, 56, 7):  # a number of seven bits a byte
                if position >= len(data):
                    return None
                size |= (data[position] & 127) << shift
                position += 1
                if data[position - 1] < 128:
                    break
        if kind == _SEQUENCE_HEADER:
            return _SequenceHeader(data[position : position + size]).frame_size()
        if kind not in _BEFORE_FRAMES:
            return None
        position += size
    return None


class _SequenceHeader:
    """The bits of a sequence header (AV1, 5.5.1); 0 past the end."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def _read(self, count: int) -> int:
        self._left -= count
        return self._bits >> self._left & ((1 << count) - 1) if self._left >= 0 else 0

    def frame_size(self) -> tuple[int, int]:
        """The largest width and height of a frame."""
        self._read(4)  # profile, still picture
        if self._read(1):  # reduced header of a still picture
            self._read(5)
        else:
            self._skip_operating_points()
        width_bits, height_bits = self._read(4) + 1, self._read(4) + 1
        return self._read(width_bits) + 1, self._read(height_bits) + 1

    def _skip_operating_points(self) -> None:
        delay_bits = 0
        if self._read(1):  # timing
            self._read(64)
            if self._read(1):
                self._skip_variable_length()
            if self._read(1):  # decoder model
                delay_bits = self._read(5) + 1
                self._read(42)
        has_display_delay = self._read(1)
        for _ in range(self._read(5) + 1):
            self._read(12)
            if self._read(5) > 7:  # level, with a tier
                self._read(1)
            if delay_bits and self._read(1):
                self._read(2 * delay_bits + 1)
            if has_display_delay and self._read(1):
                self._read(4)

    def _skip_variable_length(self) -> None:
        zeros = 0
        while zeros < 32 and self._left > 0 and not self._read(1):
            zeros += 1
        self._read(zeros)
