"""Labelled sets as directories of image files: classes, splits and shards."""

from pathlib import Path
from typing import Any

import fsspec
import pytest

from laclip_ray.config import LabelledConfig
from laclip_ray.data.image_sources import IMAGE_REFUSED
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets import folders
from laclip_ray.evaluation.sets.labelled_set import open_labelled_set, read_labelled
from tests.cases import case
from tests.unit.conftest import picture
from tests.unit.evaluation.sets.examples import images_of, labels_by_id, labels_of, make_folders


def test_classes_are_the_sorted_directories_of_the_split_and_their_words_the_names(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["test/snow_owl", "test/red_fox", "train/hare"])
    labelled = open_labelled_set(config)
    assert labelled.class_names == [["red fox"], ["snow owl"]]
    assert labels_by_id(config) == {
        "test/red_fox/0.png": (0,),
        "test/red_fox/1.png": (0,),
        "test/snow_owl/0.png": (1,),
        "test/snow_owl/1.png": (1,),
    }


def test_images_are_the_bytes_of_the_files(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["test/fox", "test/owl"])
    for image in images_of(open_labelled_set(config)):
        assert image.image == (tmp_path / image.id).read_bytes()


def test_a_set_without_directories_of_splits_is_the_split_that_is_read(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["fox", "owl/deep/deeper"], images=1)
    assert labels_by_id(config) == {"fox/0.png": (0,), "owl/deep/deeper/0.png": (1,)}


def test_the_splits_that_are_read_share_their_classes(tmp_path: Path) -> None:
    config = make_folders(
        tmp_path, ["test/owl", "train/fox", "train/owl"], 1, train_split="train", linear_probe={}
    )  # fmt: skip
    assert open_labelled_set(config).class_names == [["fox"], ["owl"]]
    assert labels_by_id(config) == {"test/owl/0.png": (1,)}
    assert labels_by_id(config, "train") == {"train/fox/0.png": (0,), "train/owl/0.png": (1,)}


def test_directories_named_by_all_numbers_are_in_their_order(tmp_path: Path) -> None:
    config = make_folders(tmp_path, [f"test/{number}" for number in range(11)], 1)
    assert labels_by_id(config)["test/10/0.png"] == (10,)


def test_directories_named_by_some_numbers_are_in_the_order_of_texts(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["test/10", "test/3", "test/4"], 1)
    assert open_labelled_set(config).class_names == [["10"], ["3"], ["4"]]
    assert labels_by_id(config)["test/10/0.png"] == (0,)


def test_configured_names_are_in_the_order_of_the_directories(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("vixen\tfox\nowl that is white\n")
    config = make_folders(tmp_path / "set", ["test/a", "test/b"], class_names=str(tmp_path / "names.txt"))
    assert open_labelled_set(config).class_names == [["vixen", "fox"], ["owl that is white"]]


def test_configured_names_that_are_the_directories_decide_the_order(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("owl\nfox\n")
    config = make_folders(tmp_path / "set", ["test/fox", "test/owl"], 1, class_names=str(tmp_path / "names.txt"))
    assert labels_by_id(config) == {"test/fox/0.png": (1,), "test/owl/0.png": (0,)}


def test_a_file_of_class_names_in_the_set_is_its_own(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["test/a", "test/b"])
    (tmp_path / "classnames.txt").write_text("fox\nowl\n")
    assert open_labelled_set(config).class_names == [["fox"], ["owl"]]


@case("Evaluation", "another number of class names than directories", "refused with both numbers", exit_code=2)
def test_another_number_of_names_than_directories_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("fox\nowl\nhare\n")
    config = make_folders(tmp_path / "set", ["test/a", "test/b"], class_names=str(tmp_path / "names.txt"))
    with pytest.raises(
        UserError, match=r"3 class names, and the set has 2 classes \(a, b\); give class_names one line"
    ):
        open_labelled_set(config)


@case("Evaluation", "class names in another order than the directories that they name", "refused", exit_code=2)
def test_names_in_another_order_than_directories_of_these_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("owl\nred fox\n")
    config = make_folders(tmp_path / "set", ["test/fox", "test/owl"], class_names=str(tmp_path / "names.txt"))
    with pytest.raises(
        UserError, match="'owl' is class 1 of the set in the order of its labels, and class 0 by its name"
    ):
        open_labelled_set(config)


@case("Evaluation", "a set of one class", "refused: every answer would be right", exit_code=2)
def test_a_set_of_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has one class \('owl'\), so every answer is right"):
        open_labelled_set(make_folders(tmp_path, ["test/owl"]))


@case("Evaluation", "a directory without the split that is read", "refused; the message lists the directories", 2)
def test_a_missing_split_is_refused_with_the_directories(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["train/fox", "train/owl", "val/fox", "val/owl"])
    with pytest.raises(UserError, match=r"no directory of split 'test'; its directories are train, val\. Set split"):
        open_labelled_set(config)


def test_one_missing_split_of_two_is_refused(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["test/fox", "test/owl"], train_split="train", linear_probe={})
    with pytest.raises(UserError, match="has no images of split 'train' in train/CLASS/; its directories are test"):
        open_labelled_set(config)


@case("Evaluation", "directories named by WordNet ids, without class names", "refused with the remedy", exit_code=2)
def test_wordnet_ids_are_no_class_names(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["test/n01440764", "test/n01443537"])
    with pytest.raises(UserError, match=r"named by WordNet ids \(n01440764, \.\.\.\).*set class_names: imagenet"):
        open_labelled_set(config)


def test_without_prompts_wordnet_ids_may_name_classes(tmp_path: Path) -> None:
    names = [f"{split}/n0144{number}" for split in ("test", "train") for number in ("0764", "3537")]
    settings: dict[str, Any] = {"train_split": "train", "linear_probe": {}, "zero_shot": False, "templates": None}
    assert len(open_labelled_set(make_folders(tmp_path, names, **settings)).class_names) == 2


def test_with_imagenets_names_directories_of_wordnet_ids_have_imagenets_labels(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["n01443537", "n15075141"], 1, class_names="imagenet")
    assert labels_by_id(config) == {"n01443537/0.png": (1,), "n15075141/0.png": (999,)}


def test_files_that_are_no_images_hidden_ones_and_images_outside_classes_are_left_out(tmp_path: Path) -> None:
    config = make_folders(tmp_path, ["test/fox", "test/owl"], 1)
    for name in ("test/fox/notes.txt", "test/fox/.0.png", "test/0.png", "test/__MACOSX/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture())
    assert [*labels_by_id(config)] == ["test/fox/0.png", "test/owl/0.png"]


def test_linked_directories_are_classes_wherever_they_lead(tmp_path: Path) -> None:
    config = make_folders(tmp_path / "set", ["test/fox"])
    make_folders(tmp_path / "elsewhere", ["owl"])
    (tmp_path / "set" / "test" / "owl").symlink_to(tmp_path / "elsewhere" / "owl")
    images = images_of(open_labelled_set(config))
    assert [image.problem for image in images] == [""] * 4
    assert [image.label for image in images] == ["fox", "fox", "owl", "owl"]


def test_files_are_grouped_into_shards_that_a_changed_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_FILES_OF_SHARD", 3)
    config = make_folders(tmp_path, ["test/fox", "test/owl"], images=4)
    before = open_labelled_set(config).splits["test"]
    assert [shard.row_count for shard in before] == [3, 3, 2]
    assert len({shard.name for shard in before}) == 3
    (tmp_path / "test" / "fox" / "3.png").write_bytes(picture(width=99))
    after = open_labelled_set(config).splits["test"]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]
    assert len(labels_of(config)) == 8


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_folders(tmp_path, ["test/fox", "test/owl"], 1)
    (shard,) = open_labelled_set(config).splits["test"]
    monkeypatch.setattr("laclip_ray.data.image_sources._LocalFiles.read", lambda *_: IMAGE_REFUSED)
    assert [image.problem for image in read_labelled(shard)] == [IMAGE_REFUSED] * 2


def test_a_set_in_a_store_is_read_as_a_local_one(tmp_path: Path) -> None:
    make_folders(tmp_path, ["test/fox", "test/owl"])
    store = fsspec.filesystem("memory")
    for file in tmp_path.rglob("*.png"):
        store.pipe_file(f"/animals/{file.relative_to(tmp_path)}", file.read_bytes())
    config = LabelledConfig(name="animals", path="memory://animals", templates="simple")
    images = images_of(open_labelled_set(config))
    assert [image.id for image in images] == [
        "test/fox/0.png", "test/fox/1.png", "test/owl/0.png", "test/owl/1.png"
    ]  # fmt: skip
    assert [image.image for image in images] == [(tmp_path / image.id).read_bytes() for image in images]
