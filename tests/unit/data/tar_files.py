"""Make tars of unusual kinds, member by member."""

import io
import tarfile

END = bytes(2 * 512)


def header(name: str, size: int, kind: bytes = b"0", link: str = "") -> bytes:
    """The header block of a member, which may claim any size."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info.tobuf(tarfile.GNU_FORMAT)


def member(name: str, content: bytes) -> bytes:
    """A regular member."""
    return header(name, len(content)) + content + bytes(-len(content) % 512)


def hard_link(name: str, target: str) -> bytes:
    return header(name, 0, tarfile.LNKTYPE, target)


def symbolic_link(name: str, target: str) -> bytes:
    return header(name, 0, tarfile.SYMTYPE, target)


def with_format(members: dict[str, bytes], tar_format: int, mtime: float = 0.0) -> bytes:
    """A tar of a format of `tarfile`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def gnu_sparse(name: str, parts: dict[int, bytes], real_size: int) -> bytes:
    """A sparse member as old GNU tars store it: contents by offset."""
    stored = b"".join(parts.values())
    block = bytearray(header(name, len(stored), tarfile.GNUTYPE_SPARSE))
    for number, (offset, content) in enumerate(parts.items()):
        start = 386 + 24 * number
        block[start : start + 24] = b"%011o\0%011o\0" % (offset, len(content))
    block[483:495] = b"%011o\0" % real_size
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    return bytes(block) + stored + bytes(-len(stored) % 512)


def pax_sparse(name: str, parts: dict[int, bytes], real_size: int) -> bytes:
    """A sparse member as GNU tar stores it in the pax format, version 1.0."""
    numbers = [len(parts), *(number for offset, content in parts.items() for number in (offset, len(content)))]
    map_text = "".join(f"{number}\n" for number in numbers).encode()
    stored = map_text + bytes(-len(map_text) % 512) + b"".join(parts.values())
    attributes = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(real_size),
    }
    info = tarfile.TarInfo("GNUSparseFile.0/" + name)
    info.size, info.pax_headers = len(stored), attributes
    return info.tobuf(tarfile.PAX_FORMAT) + stored + bytes(-len(stored) % 512)
