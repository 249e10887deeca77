"""Files that only one process may create: the lease of a run, the draws of a shard.

An object store gets a conditional put (`If-None-Match: *`): it refuses the put if there is a file. A local file is
linked into place.

Guarantees: of several processes that create a file at once, one succeeds.

Not covered: stores without conditional puts, which refuse the condition (400, 501) or ignore it. There a file is
created after a look whether it exists, so the last one of several that look at once wins. `refuses_second_creation`
tells such a store. The same holds for larger files on a local file system without hard links. After a lost answer, the
store refuses the repeated put too. A caller that needs to know reads the file.
"""

import logging
from pathlib import Path
from typing import Any

from laclip_ray import storage

logger = logging.getLogger(__name__)

_TRIES = 3
"""A store may refuse a put because of a file that another process then removes."""

_ONE_WRITE_BYTES = 4096
"""A local file of this size is written as a whole or not at all, for all practical purposes."""

_FILE_IS_THERE = (409, 412)
"""HTTP status of a put whose condition does not hold; 409 while another process writes or removes the file."""
_NO_CONDITIONS = (400, 501)
"""HTTP status of stores that do not know the condition."""


def create_bytes(url: str, content: bytes) -> bool:
    """Commit a file unless there is one. Of several processes that do so at once, one succeeds.

    Returns:
        False if there is a file already. It may be of this call, if the store's first answer was lost.
    """
    created = _put_if_absent(url, content)
    if created is not None:
        return created
    if storage.exists(url):
        return False
    storage.write_bytes(url, content)
    return True


def refuses_second_creation(url: str, content: bytes) -> bool:
    """Whether the store refuses to create a file that exists. A store that does not is left with this content.

    Args:
        url: a file that exists.
        content: of the file.
    """
    return _put_if_absent(url, content) is False


def _put_if_absent(url: str, content: bytes) -> bool | None:
    """Whether the file was created; None: the store does not know the condition, and has no new file."""
    fs, path = storage.filesystem(url)
    if storage.is_local(url):
        return _create_local(Path(path), content)
    for _ in range(_TRIES):
        try:
            fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except TypeError:  # a file system without conditional writes
            return None
        except OSError as error:
            fs.invalidate_cache()
            status = _http_status(error)
            if status in _NO_CONDITIONS:
                logger.debug("%s: the store does not know conditional puts: %s", url, error)
                return None
            if storage.exists(url):
                return False
            if status not in _FILE_IS_THERE:
                raise
        else:
            return True
    raise OSError(f"{url}: the store refuses to create the file, and lists no such file")


def _http_status(error: BaseException) -> int | None:
    """The status of S3's answer behind an error; None: there was no answer, or it is of another store."""
    response: Any = getattr(error.__cause__, "response", None)
    try:
        return int(response["ResponseMetadata"]["HTTPStatusCode"])
    except (TypeError, LookupError, ValueError):
        return None


def _create_local(target: Path, content: bytes) -> bool:
    with storage.written_aside(target, content) as aside:
        try:
            target.hardlink_to(aside)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if len(content) > _ONE_WRITE_BYTES:
                if target.exists():
                    return False
                aside.replace(target)
                return True
            try:
                with target.open("xb") as file:
                    file.write(content)
            except FileExistsError:
                return False
    return True
