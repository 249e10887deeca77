"""Evaluation sets that hold training files are found by their files, whatever the paths look like."""

from pathlib import Path

import fsspec
import pytest

from laclip_ray.config import DataConfig
from laclip_ray.evaluation.overlap import files_in_training
from tests.unit.data.hub import PAGE, URL, hub


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("train/0.tar", "train/1.tar", "train/deep/2.tar", "test/0.tar", "train2/0.tar"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "train")
    return tmp_path


@pytest.mark.parametrize(
    ("training", "found"),
    [
        ("train", ["train/0.tar", "train/deep/2.tar"]),
        ("train/0.tar", ["train/0.tar"]),
        ("train/*.tar", ["train/0.tar"]),
        ("train/0.*", ["train/0.tar"]),
        ("link", ["train/0.tar", "train/deep/2.tar"]),
        ("link/deep", ["train/deep/2.tar"]),
        ("train2", []),
        ("missing", []),
        ("train/1.tar", []),
        ("t*/1.tar", []),
        ("tes*/0.tar", ["test/0.tar"]),
    ],
)
def test_common_files_are_found(training: str, found: list[str], root: Path) -> None:
    files = [f"{root}/{name}" for name in ("train/0.tar", "train/deep/2.tar", "test/0.tar")]
    assert files_in_training(files, DataConfig(path=f"{root}/{training}")) == [f"{root}/{name}" for name in found]
    for path in ([f"{root}/train/1.tar", f"{root}/{training}"], f"{root}/train/1.tar::{root}/{training}"):
        assert files_in_training(files, DataConfig(path=path)) == [f"{root}/{name}" for name in found]


def test_relative_paths_and_urls_are_compared_with_absolute_ones(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert files_in_training(["train/0.tar"], DataConfig(path=str(root / "train"))) == ["train/0.tar"]
    assert files_in_training([f"file://{root}/train/0.tar"], DataConfig(path="train")) == [f"file://{root}/train/0.tar"]
    assert files_in_training([f"{root}/train/0.tar"], DataConfig(path="*/0.tar")) == [f"{root}/train/0.tar"]


def test_a_page_of_the_hub_is_compared_with_the_urls_of_its_files() -> None:
    with hub({"train/0.tar": b"", "test/0.tar": b""}):
        files = [f"{URL}/train/0.tar", f"{URL}/test/0.tar"]
        assert files_in_training(files, DataConfig(path=f"{PAGE}/train")) == files[:1]


def test_files_of_an_object_store_are_compared() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/overlap/train/0.tar": b"", "/overlap/test/0.tar": b""})
    try:
        files = ["memory://overlap/train/0.tar", "memory://overlap/test/0.tar"]
        assert files_in_training(files, DataConfig(path="memory://overlap/train")) == files[:1]
        assert files_in_training(files, DataConfig(path="memory://overlap/tr*/0.tar")) == files[:1]
        assert files_in_training(files, DataConfig(path="/overlap/train")) == []
    finally:
        memory.rm("/overlap", recursive=True)
