"""Images that table rows name are read in order, from where the config allows it."""

import json
import threading
from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.data import records
from laclip_ray.data.shards import list_shards, read_samples
from tests.unit.data.files import captions, read


def test_images_of_a_manifest_are_relative_to_it_or_to_the_configured_root(tmp_path: Path) -> None:
    for name in ("tables/x.png", "pictures/x.png"):
        storage.write_bytes(str(tmp_path / name), name.encode())
    (tmp_path / "tables" / "a.csv").write_text("image,caption\nx.png,one\n", encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "tables" / "a.csv"), image_column="image")
    assert read(data)[0].image == b"tables/x.png"
    assert read(data.model_copy(update={"image_root": str(tmp_path / "pictures")}))[0].image == b"pictures/x.png"
    (tmp_path / "b.csv").write_text(f"image,caption\n{tmp_path}/pictures/x.png,one\n", encoding="utf-8")
    assert read(DataConfig(path=str(tmp_path / "b.csv"), image_column="image"))[0].image == b"pictures/x.png"


def test_remote_images_are_fetched_in_parallel_and_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = threading.Barrier(4, timeout=120)  # passed only where four are asked for before one is there
    first = {f"memory://pictures/{number}.png" for number in range(4)}

    def read_bytes(url: str) -> bytes:
        if url in first:
            at_once.wait()
        return url.encode()

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    rows = [{"caption": f"caption {number}", "image": f"memory://pictures/{number}.png"} for number in range(100)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    samples = read(DataConfig(path=str(tmp_path / "a.jsonl"), image_column="image"))
    assert [sample.image for sample in samples] == [row["image"].encode() for row in rows]
    assert captions(samples) == [row["caption"] for row in rows]


def test_remote_images_are_not_fetched_far_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def read_bytes(url: str) -> bytes:
        asked.append(url)
        return b""

    monkeypatch.setattr(storage, "read_bytes", read_bytes)
    rows = [{"caption": "one", "image": f"memory://pictures/{number}.png"} for number in range(1_000)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = DataConfig(path=str(tmp_path / "a.jsonl"), image_column="image")
    samples = read_samples(list_shards(data)[0], data, with_images=True)
    next(samples)
    assert len(asked) <= 33
    del samples


@pytest.mark.parametrize("image", ["none.png", "", "a\x00b.png", ".", "nosuch://a/b.png", None])
def test_an_unreadable_image_file_is_a_missing_image(image: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"caption": "one", "image": image}), encoding="utf-8")
    (sample,) = read(DataConfig(path=str(tmp_path), image_column="image"))
    assert (sample.image, sample.problems) == (None, (records.IMAGE_MISSING,))
