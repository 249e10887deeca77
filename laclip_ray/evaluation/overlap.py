"""Finds evaluation sets that hold the files which the model is trained on.

Not covered: copies of files, and the same pictures in other files.
"""

import os
import re
from collections.abc import Iterable

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data.listing import urls_of
from laclip_ray.data.path_patterns import single_paths


def files_in_training(urls: Iterable[str], data: DataConfig) -> list[str]:
    """The files of an evaluation set that are also files of the training data, sorted.

    Args:
        urls: the set's files.
        data: the training data. Only directories that hold a file of the set are listed.
    """
    url_of = {_real(url): url for url in urls}
    common: set[str] = set()
    for path in single_paths(data.path):
        fixed = re.split(r"[*?\[{]", path, maxsplit=1)[0]
        root = _real(fixed if fixed == path else fixed.rpartition("/")[0] or ".")
        if any(real == root or real.startswith(root.rstrip("/") + "/") for real in url_of):
            common |= url_of.keys() & {_real(url) for url in urls_of(path)}
    return sorted(url_of[real] for real in common)


def _real(url: str) -> str:
    """One text for all names of a file: a local path with its links followed, or a URL."""
    fs, path = storage.filesystem(url)
    return os.path.realpath(path) if storage.is_local(url) else str(fs.unstrip_protocol(path))
