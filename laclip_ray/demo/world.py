"""Write the demo's dataset: drawn pictures with alt-texts, and held-out sets for evaluation.

    train/00000.tar ...                   KEY.jpg, KEY.txt: picture and alt-text
    retrieval/00000.tar ...               KEY.jpg, KEY.txt: held-out picture and complete caption
    test/0.tar ..., test/nshards.txt      KEY.jpg, KEY.cls: held-out picture and class index
    classnames.txt, zeroshot_classification_templates.txt

The test part has CLIP_benchmark's WebDataset layout.

Guarantees: equal arguments give equal bytes (with the same Pillow and numpy). Keys are unique over the whole dataset. A
file becomes visible only when it is complete.
Not covered: files of an earlier call with other counts stay.
"""

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from laclip_ray.demo.language import alt_text, class_names, full_caption, zero_shot_templates
from laclip_ray.demo.pictures import DEFAULT_SIZE_PX, render
from laclip_ray.demo.scenes import KINDS, Scene, draw_scene

JPEG_QUALITY = 88
MEMBER_MODE = 0o444
MEMBER_OWNER = "bigdata"
"""Mode, user and group of tar members: the values of webdataset's `TarWriter`."""


def _jpeg(scene: Scene, size_px: int) -> bytes:
    buffer = io.BytesIO()
    render(scene, size_px).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _samples(split: str, seed: int, start: int, stop: int, size_px: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(key, content by file extension) of each sample."""
    for index in range(start, stop):
        scene = draw_scene("world", seed, split, index)
        if split == "test":
            label = {"cls": str(KINDS.index(scene.kind)).encode()}
        else:
            write = full_caption if split == "retrieval" else alt_text
            label = {"txt": write(scene, "world text", seed, split, index).encode()}
        yield f"{split}-{index:06d}", {"jpg": _jpeg(scene, size_px), **label}


def _tar(samples: Iterable[tuple[str, dict[str, bytes]]]) -> bytes:
    """A WebDataset shard, with the members of a sample in alphabetical order and fixed times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key, contents in samples:
            for extension, content in sorted(contents.items()):
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(content)
                member.mode = MEMBER_MODE
                member.uname = member.gname = MEMBER_OWNER
                tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _write_file(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def _write_split(
    directory: Path, split: str, seed: int, count: int, samples_per_shard: int, size_px: int, digits: int
) -> int:
    """Write the shards of a split, named by index with at least `digits` digits. Returns the number of shards."""
    directory.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, samples_per_shard)
    for shard, start in enumerate(starts):
        samples = _samples(split, seed, start, min(start + samples_per_shard, count), size_px)
        _write_file(directory / f"{shard:0{digits}d}.tar", _tar(samples))
    return len(starts)


def write_world(
    directory: Path,
    seed: int = 0,
    train_count: int = 2000,
    test_count: int = 600,
    retrieval_count: int = 200,
    samples_per_shard: int = 250,
    size_px: int = DEFAULT_SIZE_PX,
) -> None:
    """Write the dataset under `directory`, which is created if it is missing. Files of the same names are replaced."""
    _write_split(directory / "train", "train", seed, train_count, samples_per_shard, size_px, digits=5)
    _write_split(directory / "retrieval", "retrieval", seed, retrieval_count, samples_per_shard, size_px, digits=5)
    shards = _write_split(directory / "test", "test", seed, test_count, samples_per_shard, size_px, digits=1)
    _write_file(directory / "test" / "nshards.txt", str(shards).encode())
    _write_file(directory / "classnames.txt", "\n".join(class_names()).encode())
    _write_file(directory / "zeroshot_classification_templates.txt", "\n".join(zero_shot_templates()).encode())
