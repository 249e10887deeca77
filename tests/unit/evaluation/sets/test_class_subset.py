"""Subsets of ImageNet's classes by WordNet id: which class a label means, and which images do not belong to the set."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

from laclip_ray.config import LabelledConfig
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.class_subset import imagenet_ids, read_class_subset
from laclip_ray.evaluation.sets.labelled_set import open_labelled_set
from tests.cases import case
from tests.unit.evaluation.sets.examples import label_with, labels_by_id, labels_of, make_folders

TENCH, GOLDFISH, SHARK, TOILET_TISSUE = "n01440764", "n01443537", "n01484850", "n15075141"


def subset_file(directory: Path, text: str) -> str:
    path = directory / "classes.txt"
    path.write_text(text)
    return str(path)


def test_imagenets_ids_are_a_thousand_in_the_order_of_its_names() -> None:
    ids = imagenet_ids()
    assert len(ids) == len(IMAGENET_CLASSNAMES) == 1_000
    places = {TENCH: "tench", GOLDFISH: "goldfish", SHARK: "great white shark", TOILET_TISSUE: "toilet paper"}
    assert {wordnet_id: IMAGENET_CLASSNAMES[ids.index(wordnet_id)] for wordnet_id in places} == places


def test_the_classes_are_in_the_order_of_the_file_with_imagenets_names(tmp_path: Path) -> None:
    path = subset_file(tmp_path, f"# two classes\n{TOILET_TISSUE}\n{TENCH}\n")
    config = make_folders(tmp_path / "set", [TENCH, TOILET_TISSUE], 1, class_names="imagenet", classes=path)
    assert open_labelled_set(config).class_names == [["toilet paper"], ["tench"]]
    assert labels_by_id(config) == {f"{TENCH}/0.png": (1,), f"{TOILET_TISSUE}/0.png": (0,)}


@given(places=st.lists(st.integers(0, 999), min_size=2, max_size=30, unique=True))
def test_every_class_has_the_name_of_its_id(places: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    subset = read_class_subset(
        subset_file(tmp_path_factory.mktemp("subset"), "\n".join(imagenet_ids()[place] for place in places)), "here"
    )
    names = [[name] for name in IMAGENET_CLASSNAMES]
    assert subset.select(names) == [names[place] for place in places]


@case("Evaluation", "images of classes that `classes` does not name", "they are left out, and not counted")
def test_images_of_other_classes_do_not_belong_to_the_set(tmp_path: Path) -> None:
    path = subset_file(tmp_path, f"{TENCH}\n{SHARK}\n")
    config = make_folders(tmp_path / "set", [TENCH, GOLDFISH, SHARK], 1, class_names="imagenet", classes=path)
    assert labels_by_id(config) == {f"{TENCH}/0.png": (0,), f"{GOLDFISH}/0.png": (), f"{SHARK}/0.png": (1,)}


def test_the_shards_of_a_subset_are_those_of_the_whole_set(tmp_path: Path) -> None:
    path = subset_file(tmp_path, f"{TENCH}\n{SHARK}\n")
    config = make_folders(tmp_path / "set", [TENCH, GOLDFISH, SHARK], 1, class_names="imagenet")
    of_subset = open_labelled_set(config.model_copy(update={"classes": path}))
    assert of_subset.splits == open_labelled_set(config).splits


def test_numbers_count_the_lines_if_the_set_has_as_many_classes(tmp_path: Path) -> None:
    path = subset_file(tmp_path, f"{SHARK}\n{TENCH}\n{GOLDFISH}\n")
    config = label_with(tmp_path / "set", [b"0", b"2", b"3", TENCH.encode(), TOILET_TISSUE.encode()], classes=path)
    assert open_labelled_set(config).class_names == [["red fox"], ["snow owl"], ["hare"]]
    assert labels_of(config) == [(0,), (2,), None, (1,), ()]


def test_numbers_count_imagenets_classes_if_the_set_has_all_of_them(tmp_path: Path) -> None:
    path = subset_file(tmp_path, f"{SHARK}\n{TENCH}\n")
    config = label_with(tmp_path / "set", [b"0", b"1", b"2", b"999", b"1000"], classes=path)
    (tmp_path / "set" / "classnames.txt").write_text("".join(f"class {number}\n" for number in range(1_000)))
    assert open_labelled_set(config).class_names == [["class 2"], ["class 0"]]
    assert labels_of(config) == [(1,), (), (0,), (), None]


def test_directories_named_by_all_numbers_are_imagenets_classes(tmp_path: Path) -> None:
    path = subset_file(tmp_path, f"{SHARK}\n{TENCH}\n")
    root = tmp_path / "set"
    config = make_folders(root, [str(number) for number in range(1_000)], 0, class_names="imagenet", classes=path)
    for number in range(1_000):
        (root / str(number) / "a.png").write_bytes(b"")
    labels = labels_by_id(config)
    assert {name: label for name, label in labels.items() if label} == {"0/a.png": (1,), "2/a.png": (0,)}


def test_a_class_may_have_several_ids_and_a_label_of_its_own(tmp_path: Path) -> None:
    path = subset_file(tmp_path, f"tissue {TOILET_TISSUE}\nfish {TENCH} {GOLDFISH}\n")
    config = make_folders(tmp_path / "set", ["fish", "tissue", "other"], 1, class_names="imagenet", classes=path)
    assert open_labelled_set(config).class_names == [["toilet paper"], ["tench", "goldfish"]]
    assert labels_by_id(config) == {"fish/0.png": (1,), "tissue/0.png": (0,), "other/0.png": ()}


@case(
    "Evaluation",
    "a file of WordNet ids with another text, an id outside ImageNet, or an id twice",
    "refused with the line",
    exit_code=2,
)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tench\n", "line 1 of .* is 'tench'; expected a WordNet id, such as n01440764"),
        (f"{TENCH}\n\n{SHARK}\n", "line 2 of .* is ''"),
        (f"{TENCH} tench\n", "line 1 of .* is 'n01440764 tench'"),
        (f"{TENCH}\nn00000001\n", "line 2 of .*: n00000001 is none of ImageNet's 1,000 classes"),
        (f"{TENCH}\n{SHARK}\n{TENCH}\n", "names n01440764 more than once"),
        (f"a {TENCH}\na {SHARK}\n", "names a more than once"),
        ("", "is empty"),
        ("# nothing\n", "names no classes"),
    ],
)
def test_a_file_that_names_no_classes_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^here: .*{message}"):
        read_class_subset(subset_file(tmp_path, text), "here")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "classes: the classes have no names; set class_names to imagenet"),
        (
            {"class_names": "NAMES"},
            "class_names has 3 classes, and classes names 2; give names of these, or of all 1,000",
        ),
        ({"class_names": "imagenet", "metric": "map"}, r"metric: map\) has no subsets"),
    ],
)
def test_a_subset_without_fitting_names_is_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text(json.dumps(["a", "b", "c"]))
    settings = {key: str(tmp_path / "names.json") if value == "NAMES" else value for key, value in settings.items()}
    path = subset_file(tmp_path, f"{TENCH}\n{SHARK}\n")
    with pytest.raises(UserError, match=message):
        open_labelled_set(make_folders(tmp_path / "set", [TENCH, SHARK], classes=path, **settings))


@case("Evaluation", "a subset by WordNet id of a set with other labels", "refused with the labels", exit_code=2)
def test_a_subset_of_a_set_with_other_labels_is_refused(tmp_path: Path) -> None:
    path = subset_file(tmp_path, f"{TENCH}\n{SHARK}\n")
    config: LabelledConfig = make_folders(tmp_path / "set", ["fish", "shark"], class_names="imagenet", classes=path)
    with pytest.raises(UserError, match=r"none of the set's 2 labels \(fish, shark\) is a WordNet id"):
        open_labelled_set(config)
