"""Rewrite sets that the tests write to."""

import uuid
from pathlib import Path

import pytest

from laclip_ray.config import GateConfig
from laclip_ray.rewriting.recipe import gate_fingerprint
from laclip_ray.rewriting.storing.store import RewriteSet


@pytest.fixture(params=["local", "memory"])
def rewrite_set(request: pytest.FixtureRequest, tmp_path: Path) -> RewriteSet:
    """An unclaimed set of the default gate, on disk and behind a URL."""
    location = str(tmp_path / "cleaned") if request.param == "local" else f"memory://unit-{uuid.uuid4().hex}/cleaned"
    return RewriteSet(location, gate_fingerprint(GateConfig(), "ViT-B-32"))
