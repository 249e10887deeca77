"""Labelled sets in CLIP_benchmark's layout: opened as there, or refused with a reason."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.data.byte_sources import DamagedError
from laclip_ray.data.image_formats import DEFAULT_LIMITS, IMAGE_TOO_LARGE
from laclip_ray.data.records import IMAGE_MISSING
from laclip_ray.data.tars import NotATarError
from laclip_ray.errors import UserError
from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.sets.labelled_set import open_labelled_set, read_labelled
from tests.cases import case
from tests.unit.conftest import picture, tar_bytes, write_tar
from tests.unit.evaluation.sets.examples import images_of, label_with, labels_by_id, labels_of, make_tars


def test_a_set_is_found_with_its_classes_templates_and_shards(tmp_path: Path) -> None:
    labelled = open_labelled_set(make_tars(tmp_path))
    assert labelled.class_names == [["red fox"], ["snow owl"], ["hare"]]
    assert labelled.templates == ["a photo of a {c}", "the {c}"]
    assert [shard.name for shard in labelled.splits["test"]] == ["0.tar", "1.tar"]
    assert labelled.urls == [f"{tmp_path}/test/0.tar", f"{tmp_path}/test/1.tar"]


def test_every_image_comes_encoded_with_its_label(tmp_path: Path) -> None:
    labelled = open_labelled_set(make_tars(tmp_path))
    images = images_of(labelled)
    assert [image.id for image in images] == ["s00", "s01", "s02", "s10", "s11", "s12"]
    assert [image.label for image in images] == ["0", "1", "2", "0", "1", "2"]
    assert [image.image for image in images] == [picture(width=10 + label) for label in (0, 1, 2, 0, 1, 2)]


def test_every_configured_split_is_opened_and_no_other(tmp_path: Path) -> None:
    config = make_tars(tmp_path, train_split="train", linear_probe={})
    write_tar(tmp_path / "train" / "0.tar", [("a.png", picture(width=11)), ("a.cls", b"1")])
    (tmp_path / "train" / "nshards.txt").write_text("1", encoding="utf-8")
    assert [*open_labelled_set(config).splits] == ["test", "train"]
    assert labels_of(config, "train") == [(1,)]
    zero_shot = config.model_copy(update={"linear_probe": None})
    assert [*open_labelled_set(zero_shot).splits] == ["test"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "classnames.txt",
            marks=case(
                "Evaluation", "a set without class names", "refused; the message offers the named lists and a file", 2
            ),
        ),
        pytest.param(
            "zeroshot_classification_templates.txt",
            marks=case(
                "Evaluation", "a set without templates", "refused; the message offers the named lists and a file", 2
            ),
        ),
        pytest.param("test/nshards.txt", marks=case("Evaluation", "no nshards.txt", "refused with the file", 2)),
        "test/1.tar",
    ],
)
def test_a_missing_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=rf"^evaluate\.labelled: animals: .*{name} does not exist") as raised:
        open_labelled_set(config)
    offers = {"classnames.txt": "imagenet", "zeroshot_classification_templates.txt": "openai, simple"}
    assert offers.get(name, "") in str(raised.value)


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
            marks=case("Evaluation", "a retrieval set under labelled (dataset_type.txt)", "refused", 2),
        ),
        pytest.param(
            *("dataset_type.txt", b"Multilabel\r\n", "several labels an image.*set metric: map"),
            marks=case(
                "Evaluation", "a multilabel set (dataset_type.txt) without `metric: map`", "refused with the remedy", 2
            ),
        ),
    ],
)
def test_a_file_that_holds_something_else_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"^evaluate\.labelled: animals: .*{message}"):
        open_labelled_set(config)


@pytest.mark.parametrize("content", [b"classification\n", b"", b"\xef\xbb\xbfCLASSIFICATION"])
def test_a_set_that_says_classification_is_opened(content: bytes, tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    (tmp_path / "dataset_type.txt").write_bytes(content)
    assert len(labels_of(config)) == 6


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
    config = make_tars(tmp_path)
    (tmp_path / "classnames.txt").write_bytes(content)
    assert open_labelled_set(config).class_names == [[name] for name in names]


@given(lines=st.lists(st.text("ab ", max_size=3), min_size=1, max_size=8), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_every_label_has_the_name_on_its_line(
    lines: list[str], end: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("set")
    config = make_tars(root)
    (root / "classnames.txt").write_bytes(end.join([*lines, "last", ""]).encode())
    assert open_labelled_set(config).class_names == [*([line.strip()] for line in lines), ["last"]]


def test_a_template_may_name_the_class_several_times_or_be_followed_by_blank_lines(tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    (tmp_path / "zeroshot_classification_templates.txt").write_bytes(b"{c}, a {c} of {c}s\r\n\r\nthe {c}\r\n\r\n")
    assert open_labelled_set(config).templates == ["{c}, a {c} of {c}s", "the {c}"]


def test_shards_beyond_nshards_are_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = make_tars(tmp_path)
    (tmp_path / "test" / "nshards.txt").write_text("1")
    assert len(labels_of(config)) == 3
    assert re.search(r"1\.tar is not read, because nshards\.txt says 1 shards", caplog.text)


def test_a_replaced_tar_has_another_identity_and_an_untouched_one_the_same(tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    before = open_labelled_set(config).splits["test"]
    write_tar(tmp_path / "test" / "0.tar", [("a.png", picture()), ("a.cls", b"0")])
    after = open_labelled_set(config).splits["test"]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_nshards_may_say_that_a_split_has_no_shards(tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    (tmp_path / "test" / "nshards.txt").write_text("0")
    assert labels_of(config) == []


@case(
    "Evaluation",
    "samples of a labelled set without a usable image or label",
    "the others are measured",
    counted_as="image_*, label_unusable",
)
def test_unusable_samples_say_why(tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    good = picture(width=10)
    labels = {"large": b"4", "negative": b"-1", "word": b"badger", "huge": b"9" * 5_000, "binary": b"\xff\xfe"}
    members = [("nolabel.png", good), ("noimage.cls", b"0"), ("empty.png", b""), ("empty.cls", b"0")]
    for key, label in labels.items():
        members += [(f"{key}.png", good), (f"{key}.cls", label)]
    write_tar(tmp_path / "test" / "0.tar", [*members, ("good.png", good), ("good.cls", b"0")])
    labelled = open_labelled_set(config)
    images = {image.id: image for image in read_labelled(labelled.splits["test"][0])}
    assert {key for key, image in images.items() if image.problem == IMAGE_MISSING} == {"noimage", "empty"}
    assert {key for key, image in images.items() if image.image is None} == {"noimage", "empty"}
    unusable = {key for key, image in images.items() if labelled.labels_of(image.label) is None}
    assert unusable == {"nolabel", *labels}


def test_an_image_of_too_many_bytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laclip_ray.data.tar_groups.Reading.__new__.__defaults__", (False, 100))
    assert DEFAULT_LIMITS.max_bytes > 100
    labelled = open_labelled_set(make_tars(tmp_path))
    images = images_of(labelled)
    assert [(image.image, image.problem) for image in images] == [(None, IMAGE_TOO_LARGE)] * 6


@case("Evaluation", "labels that count from 1", "the dataset has no result; the message says how to count", exit_code=3)
def test_labels_that_count_from_1_are_refused(tmp_path: Path) -> None:
    config = label_with(tmp_path, [b"1", b"2", b"3", b"2"])
    with pytest.raises(NoResultError, match=r"count from 1: 3 is a label, 0 is none, and there are 3 class names"):
        labels_of(config)


def test_one_label_too_high_among_others_from_0_is_not_usable(tmp_path: Path) -> None:
    assert labels_of(label_with(tmp_path, [b"0", b"1", b"3"])) == [(0,), (1,), None]


@case("Evaluation", "class names as labels", "they are found in classnames.txt")
def test_labels_may_be_class_names(tmp_path: Path) -> None:
    config = label_with(tmp_path, [b"snow owl\n", b"hare", b"0", b"\xef\xbb\xbfred fox"])
    assert labels_of(config) == [(1,), (2,), (0,), (0,)]


@case("Evaluation", "labels that are names which classnames.txt lacks", "none is measured", 3, "label_unusable")
def test_names_that_are_no_class_or_two_are_not_usable(tmp_path: Path) -> None:
    config = label_with(tmp_path, [b"Red Fox", b"badger", b"hare"])
    (tmp_path / "classnames.txt").write_text("hare\nred fox\nhare\n\n")
    assert labels_of(config) == [None, None, None]


@case(
    "Evaluation",
    "several labels an image (npy members) without `metric: map`",
    "the dataset has no result; the message has the remedy",
    exit_code=3,
)
@pytest.mark.parametrize("content", [b"\x93NUMPY", b"", b"no array"])
def test_several_labels_an_image_are_refused(content: bytes, tmp_path: Path) -> None:
    config = label_with(tmp_path, [content] * 3, "npy")
    with pytest.raises(NoResultError, match=r"several labels \(npy members, or lists\); set metric: map"):
        labels_of(config)


def array(values: Any, dtype: str = "float32") -> bytes:
    """An array as the webdataset library writes it."""
    file = io.BytesIO()
    np.save(file, np.array(values, dtype))
    return file.getvalue()


def with_header(header: bytes) -> bytes:
    """An array without content."""
    return b"\x93NUMPY\x01\x00v\x00" + header.ljust(117) + b"\n"


def test_vectors_of_a_multilabel_set_are_the_classes_that_are_present(tmp_path: Path) -> None:
    vectors = [
        array([0, 1, 1]),
        array([1, 0, 0]),
        array([0, 0, 0]),
        array([1, 1, 1], "int64"),
        array([0, 0, 1], "bool"),
    ]
    config = label_with(tmp_path, vectors, "npy", metric="map")
    (tmp_path / "dataset_type.txt").write_text("multilabel")
    assert open_labelled_set(config).is_multilabel
    assert labels_of(config) == [(1, 2), (0,), (), (0, 1, 2), (2,)]


@pytest.mark.filterwarnings("ignore")
def test_vectors_as_clip_benchmark_writes_them_are_read(tmp_path: Path) -> None:
    config = make_tars(tmp_path, metric="map")
    with webdataset.TarWriter(str(tmp_path / "test" / "0.tar")) as writer:
        for key, vector in (("s0000000", [0, 1, 0]), ("s0000001", [1, 0, 1])):
            writer.write({"__key__": key, "webp": picture("WEBP"), "npy": np.array(vector, "float32")})
    assert labels_of(config)[:2] == [(1,), (0, 2)]


def test_lists_of_a_multilabel_set_are_the_numbers_of_classes(tmp_path: Path) -> None:
    config = label_with(tmp_path, [array([2, 0]), array([1]), array([], "int64")], "npy", metric="map")
    assert labels_of(config) == [(0, 2), (1,), ()]


@case(
    "Evaluation",
    "labels of a multilabel set that are no vector of 0 and 1, and no list of classes",
    "the image is skipped",
    counted_as="label_unusable",
)
@pytest.mark.parametrize(
    "content",
    [
        array([0, 3]),
        array([-1, 1]),
        array([1, 1, 0, 2]),
        array([0, 1, float("nan")]),
        array([0, 1, 0.5]),
        array([[0, 1, 1]]),
        array(["a", "b"], "U1"),
        array([0, 1, 1])[:-4],
        with_header(b"{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999999,), }"),
        with_header(b"(" * 117),
        with_header(b"{'descr': ',' * 999999999}"),
        b"\x80\x04\x95",
        b"",
    ],
)  # fmt: skip
def test_arrays_that_are_no_labels_are_not_usable(content: bytes, tmp_path: Path) -> None:
    assert labels_of(label_with(tmp_path, [content, array([0, 1, 0])], "npy", metric="map")) == [None, (1,)]


def test_a_pickled_array_is_never_run(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], object), allow_pickle=True)
    assert labels_of(label_with(tmp_path, [file.getvalue()], "npy", metric="map")) == [None]


def test_mean_average_precision_may_be_measured_on_one_label_an_image(tmp_path: Path) -> None:
    assert labels_of(label_with(tmp_path, [b"0", b"hare"], metric="map")) == [(0,), (2,)]


def test_a_sample_with_both_kinds_of_labels_has_the_one_that_the_metric_takes(tmp_path: Path) -> None:
    for metric, expected in (("top1", (2,)), ("map", (0, 1))):
        config = make_tars(tmp_path, metric=metric)
        members = [("a.png", picture()), ("a.cls", b"2"), ("a.npy", array([1, 1, 0]))]
        write_tar(tmp_path / "test" / "0.tar", members)
        assert labels_by_id(config)["a"] == expected


@case("Evaluation", "a repeated id in a shard of a labelled set", "the later image is `id#2`")
def test_a_repeated_id_gets_a_number(tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    members = []
    for label in (b"0", b"1", b"2"):
        members += [("a.png", picture()), ("a.cls", label)]
    write_tar(tmp_path / "test" / "0.tar", [*members, ("a#2.png", picture()), ("a#2.cls", b"1")])
    labelled = open_labelled_set(config)
    assert [image.id for image in read_labelled(labelled.splits["test"][0])] == ["a", "a#2", "a#3", "a#2#2"]


@case(
    "Evaluation", "a tar of a labelled set that ends early", "the other tars are measured", counted_as="shard_truncated"
)
def test_a_tar_that_ends_in_the_middle_gives_its_whole_samples_first(tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    whole = tar_bytes([("k0.png", picture()), ("k0.cls", b"0"), ("k1.png", picture()), ("k1.cls", b"0")])
    (tmp_path / "test" / "0.tar").write_bytes(whole[: 4 * 512 + 512 + 50])
    images = read_labelled(open_labelled_set(config).splits["test"][0])
    assert next(images).id == "k0"
    with pytest.raises(DamagedError):
        list(images)


@case(
    "Evaluation",
    "a labelled set with a file named .tar and no tar",
    "the other tars are measured",
    counted_as="shard_unreadable",
)
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_no_tar_gives_nothing(content: bytes, tmp_path: Path) -> None:
    config = make_tars(tmp_path)
    (tmp_path / "test" / "0.tar").write_bytes(content)
    first, second = open_labelled_set(config).splits["test"]
    with pytest.raises(NotATarError):
        list(read_labelled(first))
    assert len(list(read_labelled(second))) == 3
