"""Labelled sets in CLIP_benchmark's layout: opened as there, or refused with a reason."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from laclip_ray.config import LabelledConfig
from laclip_ray.data.image_formats import IMAGE_TOO_LARGE, IMAGE_TOO_THIN, IMAGE_UNREADABLE
from laclip_ray.data.records import IMAGE_MISSING, SHARD_TRUNCATED, SHARD_UNREADABLE
from laclip_ray.errors import UserError
from laclip_ray.evaluation.coverage import Coverage, NoResultError
from laclip_ray.evaluation.labelled import LABEL_UNUSABLE, LabelledSet, labelled_images, open_labelled_set
from tests.cases import case
from tests.unit.conftest import encode, picture, smooth_pixels, tar_bytes, write_tar


def width_of(image: Image.Image) -> torch.Tensor:
    """Pixels that identify the image by its width."""
    assert image.mode == "RGB"
    return torch.full((3, 1, 1), image.width)


def make_set(root: Path) -> LabelledConfig:
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
    return LabelledConfig(name="animals", path=str(root))


def label_with(root: Path, labels: list[bytes], extension: str = "cls") -> LabelledConfig:
    """A set of one shard with these labels; the image's width is 10 more than the sample's number."""
    config = make_set(root)
    members = []
    for number, label in enumerate(labels):
        members += [(f"s{number}.png", picture(width=10 + number)), (f"s{number}.{extension}", label)]
    write_tar(root / "test" / "0.tar", members)
    (root / "test" / "nshards.txt").write_text("1")
    return config


def open_set(config: LabelledConfig) -> LabelledSet:
    return open_labelled_set(config)


def labels(config: LabelledConfig, coverage: Coverage | None = None) -> list[tuple[int, int]]:
    found = labelled_images(open_set(config), width_of, coverage or Coverage())
    return [(int(pixels[0, 0, 0]) - 10, label) for pixels, label in found]


def test_a_set_is_found_with_its_classes_templates_and_shards(tmp_path: Path) -> None:
    labelled = open_set(make_set(tmp_path))
    assert labelled.class_names == ["red fox", "snow owl", "hare"]
    assert labelled.templates == ["a photo of a {c}", "the {c}"]
    assert labelled.shards == [f"{tmp_path}/test/0.tar", f"{tmp_path}/test/1.tar"]


def test_every_image_comes_with_its_label(tmp_path: Path) -> None:
    coverage = Coverage()
    assert labels(make_set(tmp_path), coverage) == [(n, n) for n in (0, 1, 2, 0, 1, 2)]
    assert (coverage.used, coverage.skipped_units) == (6, 0)


def test_another_split_has_its_own_shards(tmp_path: Path) -> None:
    config = make_set(tmp_path)
    write_tar(tmp_path / "train" / "0.tar", [("a.png", picture(width=11)), ("a.cls", b"1")])
    (tmp_path / "train" / "nshards.txt").write_text("1", encoding="utf-8")
    assert labels(config.model_copy(update={"split": "train"})) == [(1, 1)]


@pytest.mark.parametrize(
    "name",
    [
        "classnames.txt",
        "zeroshot_classification_templates.txt",
        pytest.param("test/nshards.txt", marks=case("Evaluation", "no nshards.txt", "refused with the file", 2)),
        "test/1.tar",
    ],
)
def test_a_missing_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    config = make_set(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"^evaluate\.labelled: animals: .*{name} does not exist"):
        open_set(config)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classnames.txt", b"\n", "is empty"),
        ("zeroshot_classification_templates.txt", b"a photo\n", r"the template 'a photo' has no \{c\}"),
        ("test/nshards.txt", b"two\n", "nshards.txt holds 'two'"),
        ("test/nshards.txt", b"-1\n", "nshards.txt holds '-1'"),
        ("test/nshards.txt", "\u0663\n".encode(), "nshards.txt holds"),
        ("test/nshards.txt", b"999999999999\n", r"2\.tar does not exist, and nshards\.txt says 999999999999"),
        ("test/nshards.txt", b"", "is empty"),
        pytest.param(
            *("classnames.txt", "renard\nhibou grand-duc\nli\xe8vre\n".encode("latin-1")),
            r"classnames\.txt is not UTF-8 \(line 3\); save it as UTF-8",
            marks=case("Evaluation", "class names in another encoding than UTF-8", "refused with the line", 2),
        ),
        ("classnames.txt", "renard\n".encode("utf-16"), "is not UTF-8"),
        ("zeroshot_classification_templates.txt", b"\xff{c}", "is not UTF-8"),
        pytest.param(
            *("dataset_type.txt", b"retrieval\n", r"is a retrieval set.*evaluate\.retrieval, with data\.path=.*/test"),
            marks=case("Evaluation", "a retrieval set under zero_shot (dataset_type.txt)", "refused", 2),
        ),
        pytest.param(
            *("dataset_type.txt", b"Multilabel\r\n", "several labels an image"),
            marks=case("Evaluation", "a multilabel set (dataset_type.txt)", "refused", 2),
        ),
    ],
)
def test_a_file_that_holds_something_else_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    config = make_set(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"^evaluate\.labelled: animals: .*{message}"):
        open_set(config)


@pytest.mark.parametrize("content", [b"classification\n", b"", b"\xef\xbb\xbfCLASSIFICATION"])
def test_a_set_that_says_classification_is_opened(content: bytes, tmp_path: Path) -> None:
    config = make_set(tmp_path)
    (tmp_path / "dataset_type.txt").write_bytes(content)
    assert len(labels(config)) == 6


@pytest.mark.parametrize(
    ("content", "names"),
    [
        pytest.param(
            *(b"near\n\nfar\n", ["near", "", "far"]),
            marks=case(
                "Evaluation", "a blank line among the class names", "it is a class, so later labels keep theirs"
            ),
        ),
        (b"\nnear\nfar", ["", "near", "far"]),
        (b"near\nfar\n\n \n", ["near", "far"]),
        (b"near\r\nfar\r\n", ["near", "far"]),
        pytest.param(
            *(b"\xef\xbb\xbfnear\nfar\n", ["near", "far"]),
            marks=case("Evaluation", "class names that begin with a byte order mark", "the mark is left out"),
        ),
        ("grün\nnaïve\n".encode(), ["grün", "naïve"]),
        (b"  near \n\tfar\n", ["near", "far"]),
    ],
)
def test_class_names_are_lines_and_only_blank_ones_at_the_end_are_none(
    content: bytes, names: list[str], tmp_path: Path
) -> None:
    config = make_set(tmp_path)
    (tmp_path / "classnames.txt").write_bytes(content)
    assert open_set(config).class_names == names


@given(lines=st.lists(st.text("ab ", max_size=3), min_size=1, max_size=8), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_every_label_has_the_name_on_its_line(
    lines: list[str], end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("set")
    config = make_set(root)
    (root / "classnames.txt").write_bytes(end.join([*lines, "last", ""]).encode())
    assert open_set(config).class_names == [*(line.strip() for line in lines), "last"]


def test_a_template_may_name_the_class_several_times_or_be_followed_by_blank_lines(tmp_path: Path) -> None:
    config = make_set(tmp_path)
    (tmp_path / "zeroshot_classification_templates.txt").write_bytes(b"{c}, a {c} of {c}s\r\n\r\nthe {c}\r\n\r\n")
    assert open_set(config).templates == ["{c}, a {c} of {c}s", "the {c}"]


def test_shards_beyond_nshards_are_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = make_set(tmp_path)
    (tmp_path / "test" / "nshards.txt").write_text("1")
    assert len(labels(config)) == 3
    assert re.search(r"1\.tar is not read, because nshards\.txt says 1 shards", caplog.text)


@case("Evaluation", "nshards.txt says 0", "the dataset has no result and no number", exit_code=3)
def test_a_set_without_shards_has_no_images(tmp_path: Path) -> None:
    config = make_set(tmp_path)
    (tmp_path / "test" / "nshards.txt").write_text("0")
    coverage = Coverage()
    assert labels(config, coverage) == []
    with pytest.raises(NoResultError, match="no sample could be used"):
        coverage.check(1.0)


@case(
    "Evaluation",
    "samples of a labelled set without a usable image or label",
    "the others are measured",
    counted_as="image_*, label_unusable",
)
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
            ("large.cls", b"4"),
            ("negative.png", good),
            ("negative.cls", b"-1"),
            ("word.png", good),
            ("word.cls", b"badger"),
            ("huge.png", good),
            ("huge.cls", b"9" * 5_000),
            ("binary.png", good),
            ("binary.cls", b"\xff\xfe"),
            ("good.png", good),
            ("good.cls", b"0"),
        ],
    )
    coverage = Coverage()
    assert labels(config, coverage)[0] == (0, 0)
    assert coverage.skipped.names == {
        IMAGE_UNREADABLE: ["broken"],
        LABEL_UNUSABLE: ["nolabel", "large", "negative", "word", "huge", "binary"],
        IMAGE_MISSING: ["noimage"],
    }
    assert coverage.skipped.counts == {IMAGE_UNREADABLE: 1, LABEL_UNUSABLE: 6, IMAGE_MISSING: 1}


@case("Evaluation", "labels that count from 1", "the dataset has no result; the message says how to count", exit_code=3)
def test_labels_that_count_from_1_are_refused(tmp_path: Path) -> None:
    config = label_with(tmp_path, [b"1", b"2", b"3", b"2"])
    with pytest.raises(NoResultError, match=r"count from 1: 3 is a label, 0 is none, and classnames\.txt has 3 lines"):
        labels(config)


def test_one_label_too_high_among_others_from_0_is_skipped(tmp_path: Path) -> None:
    coverage = Coverage()
    assert labels(label_with(tmp_path, [b"0", b"1", b"3"]), coverage) == [(0, 0), (1, 1)]
    assert coverage.skipped.names == {LABEL_UNUSABLE: ["s2"]}


@case("Evaluation", "class names as labels", "they are found in classnames.txt")
def test_labels_may_be_class_names(tmp_path: Path) -> None:
    config = label_with(tmp_path, [b"snow owl\n", b"hare", b"0", b"\xef\xbb\xbfred fox"])
    assert labels(config) == [(0, 1), (1, 2), (2, 0), (3, 0)]


@case("Evaluation", "labels that are names which classnames.txt lacks", "none is measured", 3, LABEL_UNUSABLE)
def test_names_that_are_no_class_or_two_are_not_usable(tmp_path: Path) -> None:
    config = label_with(tmp_path, [b"Red Fox", b"badger", b"hare"])
    (tmp_path / "classnames.txt").write_text("hare\nred fox\nhare\n\n")
    coverage = Coverage()
    assert labels(config, coverage) == []
    assert coverage.skipped.counts == {LABEL_UNUSABLE: 3}


@case("Evaluation", "a multilabel set (npy members)", "the dataset has no result; the message says why", exit_code=3)
def test_several_labels_an_image_are_refused(tmp_path: Path) -> None:
    config = label_with(tmp_path, [b"\x93NUMPY"] * 3, "npy")
    with pytest.raises(NoResultError, match=r"several labels \(npy members\)"):
        labels(config)


@case(
    "Evaluation", "a tar of a labelled set that ends early", "the other tars are measured", counted_as=SHARD_TRUNCATED
)
def test_a_tar_that_ends_in_the_middle_is_counted_and_the_next_is_read(tmp_path: Path) -> None:
    config = make_set(tmp_path)
    whole = tar_bytes([("k0.png", picture()), ("k0.cls", b"0"), ("k1.png", picture()), ("k1.cls", b"0")])
    (tmp_path / "test" / "0.tar").write_bytes(whole[: 4 * 512 + 512 + 50])
    coverage = Coverage()
    assert [label for _, label in labels(config, coverage)][-3:] == [0, 1, 2]
    assert coverage.skipped.names == {SHARD_TRUNCATED: ["0.tar"]}


@case(
    "Evaluation",
    "a labelled set with a file named .tar and no tar",
    "the other tars are measured",
    counted_as=SHARD_UNREADABLE,
)
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_no_tar_is_counted_and_the_next_is_read(content: bytes, tmp_path: Path) -> None:
    config = make_set(tmp_path)
    (tmp_path / "test" / "0.tar").write_bytes(content)
    coverage = Coverage()
    assert [label for _, label in labels(config, coverage)] == [0, 1, 2]
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
    good = picture(width=12)
    members = [(f"{name}.{kind}", content) for name, image in (("large", large), ("thin", thin), ("good", good))
               for kind, content in (("png", image), ("cls", b"2"))]  # fmt: skip
    write_tar(tmp_path / "test" / "0.tar", members)
    coverage = Coverage()
    assert labels(config, coverage) == [(2, 2)]
    assert coverage.skipped.names == {IMAGE_TOO_LARGE: ["large"], IMAGE_TOO_THIN: ["thin"]}


@case("Evaluation", "EXIF orientation in a labelled set", "ignored, as in CLIP_benchmark, so numbers are comparable")
def test_exif_orientation_is_ignored_as_clip_benchmark_does(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(Image.fromarray(smooth_pixels(16, 40)), "JPEG", exif=exif)
    config = label_with(tmp_path, [b"0"])
    write_tar(tmp_path / "test" / "0.tar", [("a.jpg", turned), ("a.cls", b"0")])
    assert labels(config) == [(6, 0)]  # 16 wide, as stored
