"""Writes the demo's data set: drawn pictures with alt-texts, and held-out sets for evaluation.

    train/00000.tar ...                   KEY.jpg, KEY.txt: picture and alt-text
    retrieval/00000.tar ...               KEY.jpg, KEY.txt: held-out picture and complete caption
    test/0.tar ..., test/nshards.txt      KEY.jpg, KEY.cls: held-out picture and class index
    classnames.txt, zeroshot_classification_templates.txt

The test part is in CLIP_benchmark's WebDataset layout. Guarantees: same arguments give the same bytes (with
the same Pillow and numpy), keys are unique over the whole data set, a file is visible only when it is whole.
Files of an earlier call with other counts are not removed.
"""

import io
from collections.abc import Iterator
from pathlib import Path

from laclip_ray.demo.language import alt_text, class_names, full_caption, zero_shot_templates
from laclip_ray.demo.pictures import DEFAULT_SIZE_PX, render
from laclip_ray.demo.scenes import KINDS, Scene, draw_scene

JPEG_QUALITY = 88


def _jpeg(scene: Scene, size_px: int) -> bytes:
    buffer = io.BytesIO()
    render(scene, size_px).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _samples(split: str, seed: int, start: int, stop: int, size_px: int) -> Iterator[dict[str, str | bytes]]:
    for index in range(start, stop):
        scene = draw_scene("world", seed, split, index)
        sample: dict[str, str | bytes] = {"__key__": f"{split}-{index:06d}", "jpg": _jpeg(scene, size_px)}
        if split == "test":
            sample["cls"] = str(KINDS.index(scene.kind)).encode()
        else:
            write = full_caption if split == "retrieval" else alt_text
            sample["txt"] = write(scene, "world text", seed, split, index).encode()
        yield sample


def _write_file(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    part.replace(path)


def _write_split(
    directory: Path, split: str, seed: int, count: int, samples_per_shard: int, size_px: int, digits: int
) -> int:
    """Write a split's shards, named by index with at least `digits` digits; returns how many there are."""
    import webdataset

    directory.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, samples_per_shard)
    for shard, start in enumerate(starts):
        buffer = io.BytesIO()
        with webdataset.TarWriter(buffer, mtime=0) as writer:
            for sample in _samples(split, seed, start, min(start + samples_per_shard, count), size_px):
                writer.write(sample)
        _write_file(directory / f"{shard:0{digits}d}.tar", buffer.getvalue())
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
    """Write the data set under `directory` (made if missing; files of the same names are replaced)."""
    _write_split(directory / "train", "train", seed, train_count, samples_per_shard, size_px, digits=5)
    _write_split(directory / "retrieval", "retrieval", seed, retrieval_count, samples_per_shard, size_px, digits=5)
    shards = _write_split(directory / "test", "test", seed, test_count, samples_per_shard, size_px, digits=1)
    _write_file(directory / "test" / "nshards.txt", str(shards).encode())
    _write_file(directory / "classnames.txt", "\n".join(class_names()).encode())
    _write_file(directory / "zeroshot_classification_templates.txt", "\n".join(zero_shot_templates()).encode())
