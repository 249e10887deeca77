"""Labelled sets in CLIP_benchmark's layout, and captioned images from any shards."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from laclip_ray.config import DataConfig, ZeroShotConfig
from laclip_ray.data.image_formats import IMAGE_UNREADABLE
from laclip_ray.data.records import CAPTION_MISSING, IMAGE_MISSING, SHARD_TRUNCATED
from laclip_ray.errors import UserError
from laclip_ray.evaluation.datasets import (
    LABEL_UNUSABLE,
    LabelledSet,
    batches,
    captioned_images,
    labelled_images,
    open_labelled_set,
)
from laclip_ray.tally import Tally
from tests.unit.conftest import picture, tar_bytes, write_tar


def width_of(image: Image.Image) -> torch.Tensor:
    """Pixels that identify the image by its width."""
    assert image.mode == "RGB"
    return torch.full((3, 1, 1), image.width)


def make_set(root: Path) -> ZeroShotConfig:
    """Two shards of labelled images of three classes; the label is the width less 10."""
    (root / "classnames.txt").write_text("red fox\nsnow owl\nhare\n", encoding="utf-8")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}\nthe {c}\n", encoding="utf-8")
    for shard in range(2):
        members = []
        for label in range(3):
            members += [
                (f"s{shard}{label}.png", picture(width=10 + label)),
                (f"s{shard}{label}.cls", b"%d\n" % label),
            ]
        write_tar(root / "test" / f"{shard}.tar", members)
    (root / "test" / "nshards.txt").write_text("2\n", encoding="utf-8")
    return ZeroShotConfig(name="animals", path=str(root))


def labels(labelled: LabelledSet, skipped: Tally) -> list[tuple[int, int]]:
    return [(int(pixels[0, 0, 0]) - 10, label) for pixels, label in labelled_images(labelled, width_of, skipped)]


def test_a_set_is_found_with_its_classes_templates_and_shards(tmp_path: Path) -> None:
    labelled = open_labelled_set(make_set(tmp_path))
    assert labelled.class_names == ["red fox", "snow owl", "hare"]
    assert labelled.templates == ["a photo of a {c}", "the {c}"]
    assert labelled.shards == [f"{tmp_path}/test/0.tar", f"{tmp_path}/test/1.tar"]


def test_every_image_comes_with_its_label(tmp_path: Path) -> None:
    skipped = Tally()
    assert labels(open_labelled_set(make_set(tmp_path)), skipped) == [(n, n) for n in (0, 1, 2, 0, 1, 2)]
    assert skipped == Tally()


def test_another_split_has_its_own_shards(tmp_path: Path) -> None:
    config = make_set(tmp_path)
    write_tar(tmp_path / "train" / "0.tar", [("a.png", picture(width=11)), ("a.cls", b"1")])
    (tmp_path / "train" / "nshards.txt").write_text("1", encoding="utf-8")
    labelled = open_labelled_set(config.model_copy(update={"split": "train"}))
    assert labels(labelled, Tally()) == [(1, 1)]


@pytest.mark.parametrize(
    "name", ["classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt", "test/1.tar"]
)
def test_a_missing_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    config = make_set(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"animals: .*{name} does not exist"):
        open_labelled_set(config)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classnames.txt", "\n", "is empty"),
        ("zeroshot_classification_templates.txt", "a photo\n", r"the template 'a photo' has no \{c\}"),
        ("test/nshards.txt", "two\n", "nshards.txt holds 'two'"),
        ("test/nshards.txt", "-1\n", "nshards.txt holds '-1'"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    config = make_set(tmp_path)
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        open_labelled_set(config)


def test_unusable_samples_are_counted_by_reason_and_named(tmp_path: Path) -> None:
    config = make_set(tmp_path)
    good = picture(width=10)
    write_tar(
        tmp_path / "test" / "0.tar",
        [
            ("broken.png", good[:40]),
            ("broken.cls", b"0"),
            ("nolabel.png", good),
            ("noimage.cls", b"0"),
            ("large.png", good),
            ("large.cls", b"3"),
            ("negative.png", good),
            ("negative.cls", b"-1"),
            ("word.png", good),
            ("word.cls", b"fox"),
            ("good.png", good),
            ("good.cls", b"0"),
        ],
    )
    skipped = Tally()
    assert labels(open_labelled_set(config), skipped)[0] == (0, 0)
    assert skipped.names == {
        IMAGE_UNREADABLE: ["broken"],
        LABEL_UNUSABLE: ["nolabel", "large", "negative", "word"],
        IMAGE_MISSING: ["noimage"],
    }
    assert skipped.counts == {IMAGE_UNREADABLE: 1, LABEL_UNUSABLE: 4, IMAGE_MISSING: 1}


def test_a_tar_that_ends_in_the_middle_is_counted_and_the_next_is_read(tmp_path: Path) -> None:
    config = make_set(tmp_path)
    whole = tar_bytes([("k0.png", picture()), ("k0.cls", b"0")])
    (tmp_path / "test" / "0.tar").write_bytes(whole[: 512 + 50])
    skipped = Tally()
    assert [label for _, label in labels(open_labelled_set(config), skipped)][-3:] == [0, 1, 2]
    assert skipped.names == {SHARD_TRUNCATED: ["0.tar#end"]}


def captioned(root: Path) -> DataConfig:
    members = [("bad.png", b"broken"), ("bad.txt", b"of a broken image"), ("none.png", picture())]
    for number in range(5):
        members += [(f"k{number}.png", picture(width=10 + number)), (f"k{number}.txt", b"caption %d" % number)]
    write_tar(root / "0.tar", members[:9])
    write_tar(root / "1.tar", members[9:])
    return DataConfig(path=str(root))


@pytest.mark.parametrize("at_most", [None, 1, 3, 5, 9])
def test_captioned_images_are_the_first_usable_ones(at_most: int | None, tmp_path: Path) -> None:
    skipped = Tally()
    pairs = list(captioned_images(captioned(tmp_path), at_most, width_of, skipped, "data"))
    assert [(int(pixels[0, 0, 0]) - 10, caption) for pixels, caption in pairs] == [
        (number, f"caption {number}") for number in range(5)
    ][:at_most]
    assert skipped.names == {IMAGE_UNREADABLE: ["bad"], CAPTION_MISSING: ["none"]}
    assert skipped.counts.total() == 2


@pytest.mark.parametrize(("count", "expected"), [(0, []), (4, [2, 2]), (5, [2, 2, 1])])
def test_batches_hold_every_item_in_order(count: int, expected: list[int]) -> None:
    stacked = list(batches(iter([(torch.full((3, 1, 1), number), number) for number in range(count)]), 2))
    assert [len(others) for _, others in stacked] == expected
    assert [other for _, others in stacked for other in others] == list(range(count))
    for pixels, others in stacked:
        assert pixels[:, 0, 0, 0].tolist() == others
