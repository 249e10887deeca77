"""A split of a labelled set as features: every usable image with its label, and the others by reason."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from laclip_ray.config import LabelledConfig
from laclip_ray.data.image_formats import IMAGE_TOO_LARGE, IMAGE_TOO_THIN, IMAGE_UNREADABLE
from laclip_ray.data.records import IMAGE_MISSING, SHARD_TRUNCATED, SHARD_UNREADABLE
from laclip_ray.evaluation.coverage import Coverage, NoResultError
from laclip_ray.evaluation.labelled_split import LabelledSource, LabelledSplit, collect_split
from laclip_ray.evaluation.sets.labelled_set import LABEL_UNUSABLE, open_labelled_set
from tests.cases import case
from tests.unit.conftest import encode, picture, smooth_pixels, tar_bytes, write_tar
from tests.unit.evaluation.encoded import TestModel, encoding, read
from tests.unit.evaluation.sets.examples import label_with, make_folders, make_tars


def width_of(image: Image.Image) -> torch.Tensor:
    """Pixels that identify the image by its width."""
    assert image.mode == "RGB"
    return torch.full((1, 1, 1), float(image.width))


def collected(config: LabelledConfig) -> tuple[LabelledSplit, Coverage]:
    """The split that is measured. An image's embedding is its width."""
    labelled, coverage = open_labelled_set(config), Coverage()
    sources = [LabelledSource(shard) for shard in labelled.splits[config.split]]
    with encoding(TestModel(), width_of) as model:
        return collect_split(labelled, sources, read(model, sources), coverage), coverage


def widths_and_labels(split: LabelledSplit) -> list[tuple[int, int]]:
    widths = split.embeddings.values[:, 0].astype(int).tolist()
    return list(zip(widths, split.embeddings.labels.tolist(), strict=True))


def test_every_image_has_its_label(tmp_path: Path) -> None:
    split, coverage = collected(make_tars(tmp_path))
    assert widths_and_labels(split) == [(10, 0), (11, 1), (12, 2), (10, 0), (11, 1), (12, 2)]
    assert (coverage.used, coverage.skipped_units) == (6, 0)


def test_unusable_images_are_counted_by_reason_and_named(tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    good = picture(width=10)
    members = [("broken.png", good[:40]), ("broken.cls", b"0"), ("nolabel.png", good), ("noimage.cls", b"0")]
    write_tar(tmp_path / "test" / "0.tar", [*members, ("large.png", good), ("large.cls", b"4")])
    split, coverage = collected(config)
    assert coverage.used == 3
    assert coverage.skipped.names == {
        IMAGE_UNREADABLE: ["broken"],
        LABEL_UNUSABLE: ["nolabel", "large"],
        IMAGE_MISSING: ["noimage"],
    }
    assert split.unreadable.tolist() == [0, 0]
    assert split.unreadable_ids == ["broken", "noimage"]


@case("Evaluation", "nshards.txt says 0", "the dataset has no result and no number", exit_code=3)
def test_a_set_without_shards_has_no_images(tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    (tmp_path / "test" / "nshards.txt").write_text("0")
    split, coverage = collected(config)
    assert len(split.embeddings) == 0
    with pytest.raises(NoResultError, match="no sample could be used"):
        coverage.check(1.0)


def test_images_of_classes_that_were_not_chosen_are_not_counted(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("n01440764\nn01484850\n")
    names = ["n01440764", "n01443537", "n01484850"]
    config = make_folders(tmp_path / "set", names, 1, class_names="imagenet", classes=str(tmp_path / "ids.txt"))
    split, coverage = collected(config)
    assert widths_and_labels(split) == [(10, 0), (12, 1)]
    assert (coverage.used, coverage.skipped_units) == (2, 0)


def test_a_tar_that_ends_in_the_middle_is_counted_and_the_next_is_read(tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    whole = tar_bytes([("k0.png", picture()), ("k0.cls", b"0"), ("k1.png", picture()), ("k1.cls", b"0")])
    (tmp_path / "test" / "0.tar").write_bytes(whole[: 4 * 512 + 512 + 50])
    split, coverage = collected(config)
    assert split.embeddings.labels.tolist() == [0, 0, 1, 2]
    assert coverage.skipped.names == {SHARD_TRUNCATED: ["0.tar"]}


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_no_tar_is_counted_and_the_next_is_read(content: bytes, tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    (tmp_path / "test" / "0.tar").write_bytes(content)
    split, coverage = collected(config)
    assert split.embeddings.labels.tolist() == [0, 1, 2]
    assert coverage.skipped.names == {SHARD_UNREADABLE: ["0.tar"]}


@case(
    "Evaluation",
    "a picture of 170 megapixels, or 60,000 times as wide as high",
    "skipped before it is decoded",
    counted_as="image_too_large, image_too_thin",
)
def test_pictures_of_hostile_sizes_are_skipped(tmp_path: Path) -> None:
    config = label_with(tmp_path, [b"0", b"1"])
    large = encode(Image.new("1", (13_100, 13_000)))
    thin = encode(Image.new("L", (60_000, 1)))
    members = [(f"{name}.{kind}", content) for name, image in (("large", large), ("thin", thin), ("good", picture()))
               for kind, content in (("png", image), ("cls", b"2"))]  # fmt: skip
    write_tar(tmp_path / "test" / "0.tar", members)
    split, coverage = collected(config)
    assert split.embeddings.ids == ["good"]
    assert coverage.skipped.names == {IMAGE_TOO_LARGE: ["large"], IMAGE_TOO_THIN: ["thin"]}


@case("Evaluation", "EXIF orientation in a labelled set", "ignored, as in CLIP_benchmark, so numbers are comparable")
def test_exif_orientation_is_ignored_as_clip_benchmark_does(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(Image.fromarray(smooth_pixels(16, 40)), "JPEG", exif=exif)
    config = label_with(tmp_path, [b"0"])
    write_tar(tmp_path / "test" / "0.tar", [("a.jpg", turned), ("a.cls", b"0")])
    split, _ = collected(config)
    assert widths_and_labels(split) == [(16, 0)]  # as stored
