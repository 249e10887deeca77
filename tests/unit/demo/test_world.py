"""The written data set has fixed bytes, unique keys and CLIP_benchmark's layout."""

import io
import tarfile
from hashlib import sha256
from pathlib import Path

from PIL import Image

from laclip_ray.demo.language import class_names, facts_of
from laclip_ray.demo.world import write_world


def _write(directory: Path, seed: int = 3) -> Path:
    write_world(directory, seed, train_count=23, test_count=12, retrieval_count=5, samples_per_shard=10, size_px=32)
    return directory


def _digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def _members(directory: Path) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for path in sorted(directory.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                stream = tar.extractfile(member)
                assert stream is not None
                assert member.name not in members, "a key is repeated"
                members[member.name] = stream.read()
    return members


def test_equal_arguments_give_equal_bytes(tmp_path: Path) -> None:
    assert _digests(_write(tmp_path / "first")) == _digests(_write(tmp_path / "second"))


def test_another_seed_gives_other_pictures(tmp_path: Path) -> None:
    first, second = _digests(_write(tmp_path / "first")), _digests(_write(tmp_path / "second", seed=4))
    assert first.keys() == second.keys()
    assert first["train/00000.tar"] != second["train/00000.tar"]


def test_layout_is_complete_and_nothing_else_is_left(tmp_path: Path) -> None:
    assert set(_digests(_write(tmp_path))) == {
        "train/00000.tar",
        "train/00001.tar",
        "train/00002.tar",
        "retrieval/00000.tar",
        "test/0.tar",
        "test/1.tar",
        "test/nshards.txt",
        "classnames.txt",
        "zeroshot_classification_templates.txt",
    }
    assert (tmp_path / "test" / "nshards.txt").read_text() == "2"
    assert (tmp_path / "classnames.txt").read_text().splitlines() == list(class_names())


def test_samples_are_whole_and_keys_unique(tmp_path: Path) -> None:
    members = _members(_write(tmp_path))
    pictures = [name for name in members if name.endswith(".jpg")]
    assert len(pictures) == 23 + 12 + 5
    for name in pictures:
        key = name.removesuffix(".jpg")
        assert Image.open(io.BytesIO(members[name])).size == (32, 32)
        if key.startswith("test-"):
            assert 0 <= int(members[f"{key}.cls"]) < len(class_names())
        else:
            assert facts_of(members[f"{key}.txt"].decode()) is not None
