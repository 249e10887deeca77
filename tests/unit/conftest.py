"""Small makers of files that the tests read."""

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from laclip_ray.data.images import ImageSpec
from laclip_ray.endings import signals
from laclip_ray.rewriting.engines.orphan_guard import OWNER_VARIABLE

# Before torch is imported. Small models do not gain from more threads, and on busy cores threads wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"
# No deadline: machines that share their cores miss any.
settings.register_profile("quick", deadline=None, max_examples=25)
settings.register_profile("full", deadline=None, max_examples=400)
settings.load_profile(os.environ.get("LACLIP_TEST_PROFILE", "quick"))

SMALL = ImageSpec(16, "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture(autouse=True)
def _hermetic(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test sees the caller's Ray or an earlier test's guards, nor leaves files outside its directory."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    # Set and removed: a test that sets it leaves nothing behind then.
    monkeypatch.setenv(OWNER_VARIABLE, "")
    monkeypatch.delenv(OWNER_VARIABLE)
    monkeypatch.chdir(tmp_path)
    yield
    if signals._active is not None:  # an interrupted command keeps its watch until its process ends
        signals._active.stop()


def tar_bytes(members: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar of (name, content) members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """Write a tar of (name, content) members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return path


def smooth_pixels(width: int, height: int) -> np.ndarray:
    """uint8 [height, width, 3] without fine detail, different in each channel and corner."""
    across, down = np.linspace(0, 1, width)[None, :], np.linspace(0, 1, height)[:, None]
    channels = (across + 0 * down, down + 0 * across, (across + down) / 2)
    return np.stack([np.round(40 + 170 * channel) for channel in channels], axis=2).astype(np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(kind: str = "PNG", width: int = 24, height: int = 20) -> bytes:
    """A small smooth picture as a file's bytes."""
    return encode(Image.fromarray(smooth_pixels(width, height)), kind)
