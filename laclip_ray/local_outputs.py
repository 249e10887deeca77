"""Local outputs that cannot be written are refused before work starts."""

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from laclip_ray import storage
from laclip_ray.endings.surroundings import find_problem
from laclip_ray.errors import SurroundingsError

_LONGEST_NAME, _LONGEST_PATH = 255, 4_095
"""Bytes, on the usual file systems."""
_PROBE_BYTES = 4_096
_LONGEST_BELOW = 200
"""Bytes that a run's own files may add to its output's path."""


def check_writable(outputs: Mapping[str, str]) -> None:
    """Refuse local output directories that cannot be made or written. Leaves no file behind.

    Args:
        outputs: directories or URLs by config key. URLs of remote stores are left to the first write.

    Raises:
        SurroundingsError: with the key, the directory, and what to do.
    """
    for setting, url in outputs.items():
        if storage.is_local(url):
            path = Path(url.removeprefix("file://")).absolute()
            try:
                problem = _problem(path)
            except OSError as error:
                problem = f"cannot be looked at ({error.strerror}). Give this user access, or choose another directory"
            if problem is not None:
                raise SurroundingsError(f"{setting}: {path} {problem}")


def _problem(path: Path) -> str | None:
    """Why a directory cannot be made or written, and what to do; None if it can."""
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        return f"has a name of more than {_LONGEST_NAME} bytes. Choose a shorter one"
    if len(os.fsencode(path)) > _LONGEST_PATH - _LONGEST_BELOW:
        return f"is longer than {_LONGEST_PATH - _LONGEST_BELOW:,} bytes. Choose a shorter path"
    for each in (path, *path.parents):
        if _exists(each):
            return _problem_of_existing(each)
    return None


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except NotADirectoryError:  # a part of the path is a file; the loop comes to it
        return False
    return True


def _problem_of_existing(path: Path) -> str | None:
    """Why no file can be made in an existing directory, or below it."""
    if path.is_symlink():
        try:
            path.stat()
        except FileNotFoundError:
            return f"needs {path}, a link to {path.readlink()}, which does not exist. Create that, or remove the link"
        except OSError as error:
            if error.errno == errno.ELOOP:
                return f"needs {path}, a link that leads in a circle. Remove it"
            raise
    if not path.is_dir():
        return f"needs {path}, which is not a directory. Choose another directory"
    try:
        with tempfile.TemporaryFile(dir=path, buffering=0) as probe:  # without a name, where the system can
            probe.write(b"\0" * _PROBE_BYTES)
    except OSError as error:
        problem = find_problem(error)
        reason, remedy = (problem.what, problem.remedy) if problem is not None else (error.strerror, "Choose another")
        return f"cannot be written, as a file in {path} shows: {reason}. {remedy}"
    return None
