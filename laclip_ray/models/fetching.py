"""Bring a model's files to this machine: a checkpoint file, or single files of a directory or a Hub repository.

Guarantees: files on this machine are not copied, and copies are removed at the end of their context. The
Hub's files stay in its cache.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from laclip_ray import storage
from laclip_ray.config.markers import DIRECTORY_PREFIX, HUB_PREFIX, WEIGHTS_SUFFIXES

Fetch = Callable[[str], Path | None]
"""Gives the local path of a model's file by its name; None if the model has no such file."""


def is_checkpoint_file(location: str) -> bool:
    """Whether a location names a checkpoint file, by its suffix. A local directory with such a name is none."""
    if location.startswith((HUB_PREFIX, DIRECTORY_PREFIX)) or not weights_suffix(location):
        return False
    return not storage.is_local(location) or not storage.is_directory(location)


def weights_suffix(location: str) -> str:
    """The suffix of a checkpoint file's path or URL; empty if it has none of `WEIGHTS_SUFFIXES`."""
    is_web = location.startswith(("http://", "https://"))
    path = urlsplit(location).path if is_web else location  # a web address may have a query: `x.pt?download=true`
    return next((suffix for suffix in WEIGHTS_SUFFIXES if path.endswith(suffix)), "")


@contextlib.contextmanager
def local_file(location: str) -> Iterator[Path]:
    """A file as a local one inside this context; a URL is copied, with its suffix."""
    fs, path = storage.filesystem(location)
    if storage.is_local(location):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / f"checkpoint{weights_suffix(location)}"
        fs.get_file(path, str(copy))
        yield copy


@contextlib.contextmanager
def model_files(model: str) -> Iterator[Fetch]:
    """Fetch single files of a directory, a URL or a Hub repository (`hf-hub:`) inside this context."""
    if model.startswith(HUB_PREFIX):
        repository = model.removeprefix(HUB_PREFIX)
        yield lambda name: _hub_file(repository, name)
        return
    directory = model.removeprefix(DIRECTORY_PREFIX)
    with contextlib.ExitStack() as copies:

        def fetch(name: str) -> Path | None:
            url = storage.join(directory, name)
            return copies.enter_context(local_file(url)) if storage.exists(url) else None

        yield fetch


def _hub_file(repository: str, name: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name))
    except EntryNotFoundError:  # also if it is not in the cache, and the Hub is out of reach
        return None
