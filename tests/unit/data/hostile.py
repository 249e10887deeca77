"""Small image files that would take gigabytes, or hours, if their claims were believed."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from laclip_ray.data.image_formats import IMAGE_FORMAT_REFUSED, IMAGE_TOO_LARGE, IMAGE_TOO_THIN, IMAGE_UNREADABLE
from tests.unit.conftest import encode, picture

LARGE_TEXT = 100 * 2**20


def png(width: int, height: int, *chunks: tuple[bytes, bytes], depth: int = 8, colour: int = 0) -> bytes:
    """A PNG with these header fields and chunks, whatever they claim."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = ((b"IHDR", header), *chunks, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def zeros(count: int) -> bytes:
    """That many zero bytes, compressed to a thousandth."""
    compress = zlib.compressobj(9)
    block = bytes(2**20)
    parts = [compress.compress(block) for _ in range(count // len(block))]
    return b"".join(parts) + compress.flush()


def tiff(tags: Sequence[tuple[int, int, int, int]], content: bytes = b"") -> bytes:
    """A little-endian TIFF of (number, type, count, value) tags; `content` begins at byte 8."""
    entries = b"".join(
        struct.pack("<HHI", number, kind, count)
        + (struct.pack("<H", value) + b"\0\0" if kind == 3 and count == 1 else struct.pack("<I", value))
        for number, kind, count, value in sorted(tags)
    )
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory


def grey_tiff(width: int, height: int, *tags: tuple[int, int, int, int], content: bytes = b"") -> bytes:
    """A TIFF of 8-bit greys with additional tags."""
    basic = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    own = {number for number, *_ in tags}
    return tiff([*(tag for tag in basic if tag[0] not in own), *tags], content)


def patched(content: bytes, mark: bytes, offset: int, replacement: bytes) -> bytes:
    """The content with other bytes at `offset` after the start of `mark`."""
    position = content.index(mark) + offset
    return content[:position] + replacement + content[position + len(replacement) :]


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there `count` times."""
    content = encode(Image.fromarray(np.zeros((64, 64), np.uint8)), "JPEG", progressive=True)
    last, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    return content[:last] + content[last:end] * count + content[end:]


def _icon_with(inner: bytes) -> bytes:
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(inner), 22) + inner


def hostile_files() -> dict[str, tuple[bytes, str]]:
    """Content and the reason for which it is refused, by a name."""
    side = 13_000
    flat = zeros(side * (side + 1))
    tile = zlib.compress(bytes(16))
    strips = struct.pack("<I", 8) * 300_000
    large = {
        "a PNG of 169 megapixels": png(side, side, (b"IDAT", flat)),
        "a PNG that claims 65,000 x 65,000 pixels": png(65_000, 65_000, (b"IDAT", tile), depth=16, colour=6),
        "a GIF that claims 65,535 x 65,535 pixels": patched(picture("GIF"), b"GIF8", 6, b"\xff\xff\xff\xff"),
        "a BMP that claims 60,000 x 60,000 pixels": patched(
            picture("BMP"), b"BM", 18, struct.pack("<ii", 60_000, 60_000)
        ),
        "a JPEG that claims 65,500 x 65,500 pixels": patched(
            picture("JPEG"), b"\xff\xc0", 5, struct.pack(">HH", 65_500, 65_500)
        ),
        "a PPM that claims 50,000 x 50,000 pixels": b"P6 50000 50000 255\n" + bytes(100),
        "a TIFF that claims 60,000 x 60,000 pixels": grey_tiff(
            60_000, 60_000, (273, 4, 1, 8), (278, 4, 1, 60_000), content=tile
        ),
        "a WebP with a canvas of 16,000 x 16,000 pixels": _canvas(16_000, 16_000),
        "a WebP with a canvas of 2^24 x 200 pixels": _canvas(2**24, 200),
        "an AVIF that claims 16,000 x 12,000 pixels": patched(
            picture("AVIF", 64, 64), b"ispe", 8, struct.pack(">II", 16_000, 12_000)
        ),
        "a TIFF of 16 x 16 pixels with a tile of 60,000 x 60,000": grey_tiff(
            16,
            16,
            (259, 3, 1, 8),
            (322, 4, 1, 60_000),
            (323, 4, 1, 60_000),
            (324, 4, 1, 8),
            (325, 4, 1, 24),
            content=tile,
        ),
        "a TIFF with 300,000 strips": grey_tiff(16, 16, (273, 4, 300_000, 8), (278, 4, 1, 1), content=strips),
        "a TIFF with 600,000 bit depths": grey_tiff(16, 16, (258, 3, 600_000, 8), (273, 4, 1, 8), content=strips),
        "a JPEG with 20,000 scans": many_scans(20_000),
    }
    thin = {
        "a PNG of 1 x 60,000 pixels": encode(Image.new("RGB", (1, 60_000)), "PNG"),
        "a GIF of 65,000 x 1 pixels": encode(Image.new("P", (65_000, 1)), "GIF"),
        "a JPEG of 2 x 65,000 pixels": encode(Image.new("RGB", (2, 65_000)), "JPEG"),
    }
    text_bomb = b"Comment\0\0" + zeros(LARGE_TEXT)
    unreadable = {
        "a PNG with a colour profile of 100 MiB": png(8, 8, (b"iCCP", b"a\0\0" + zeros(LARGE_TEXT)), (b"IDAT", tile)),
        "a PNG with a text of 100 MiB": png(8, 8, (b"zTXt", text_bomb), (b"IDAT", tile)),
        "64 KiB of zero bytes": bytes(2**16),
    }
    refused = {
        "an EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
        "an icon that holds a PNG of 169 megapixels": _icon_with(large["a PNG of 169 megapixels"]),
    }
    kinds = (
        (large, IMAGE_TOO_LARGE),
        (thin, IMAGE_TOO_THIN),
        (unreadable, IMAGE_UNREADABLE),
        (refused, IMAGE_FORMAT_REFUSED),
    )
    return {name: (content, reason) for files, reason in kinds for name, content in files.items()}


def _canvas(width: int, height: int) -> bytes:
    """A WebP whose extended header claims a canvas, around a small picture."""
    inner = picture("WEBP")[12:]
    header = (
        b"VP8X" + struct.pack("<II", 10, 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )
    body = b"WEBP" + header + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body
