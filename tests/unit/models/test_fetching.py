"""Model files come to this machine only if they are elsewhere, and their copies do not stay."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from laclip_ray.models.fetching import is_checkpoint_file, local_file, model_files


@pytest.mark.parametrize(
    "location",
    [
        "runs/x.pt",
        "x.pth",
        "file:///x.pth.tar",
        "s3://bucket/x.bin",
        "memory://x.safetensors",
        "https://host/x.pt?download=true#part",
    ],
)
def test_a_file_is_known_by_its_suffix(location: str) -> None:
    assert is_checkpoint_file(location)


@pytest.mark.parametrize(
    "location", ["ViT-B-32", "runs/x", "s3://bucket/x.ckpt", "https://host/x?file=y.pt", "hf-hub:a/b.pt"]
)
def test_another_location_is_no_file(location: str) -> None:
    assert not is_checkpoint_file(location)


def test_a_directory_with_the_suffix_of_a_file_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.pt").mkdir()
    assert not is_checkpoint_file(str(tmp_path / "x.pt"))


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_local_file_is_not_copied(form: str, tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"weights")
    with local_file(form.format(tmp_path / "x.pt")) as path:
        assert path == tmp_path / "x.pt"
    assert path.exists()


def test_the_copy_of_a_url_keeps_its_suffix_and_is_removed(memory: Any) -> None:
    memory.pipe_file("/loading/x.safetensors", b"weights")
    with local_file("memory://loading/x.safetensors") as path:
        assert (path.suffix, path.read_bytes()) == (".safetensors", b"weights")
    assert not path.exists()


def test_single_files_of_a_directory_at_a_url_are_copied_until_the_end(memory: Any) -> None:
    memory.pipe_file("/loading/model/config.json", b"{}")
    with model_files("memory://loading/model") as fetch:
        path = fetch("config.json")
        assert path is not None
        assert path.read_bytes() == b"{}"
        assert fetch("vocab.json") is None
    assert not path.exists()


@pytest.mark.parametrize("error", [EntryNotFoundError, LocalEntryNotFoundError])
def test_a_file_that_a_hub_repository_lacks_is_none(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, name: str) -> str:
        if name == "config.json":
            return f"/cache/{repository}/{name}"
        raise error("no such file")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with model_files("hf-hub:org/name") as fetch:
        assert fetch("config.json") == Path("/cache/org/name/config.json")
        assert fetch("vocab.json") is None
