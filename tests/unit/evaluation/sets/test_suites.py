"""The suites of `configs/evaluation/` open sets of their layouts, and their subsets name ImageNet's classes."""

from importlib.resources import files
from pathlib import Path

import pytest

from laclip_ray.config import LabelledConfig, load_experiment, with_absolute_paths
from laclip_ray.evaluation.sets.class_subset import read_class_subset
from laclip_ray.evaluation.sets.labelled_set import open_labelled_set
from tests.unit.conftest import picture, write_tar
from tests.unit.evaluation.sets.examples import labels_of

REPOSITORY = Path(__file__).parents[4]
SUITES = REPOSITORY / "configs" / "evaluation"
IDS = SUITES / "wordnet_ids"
CLASSES = {"wds_imagenet-a": 200, "wds_imagenet-r": 200, "wds_objectnet": 113, "wds_vtab-caltech101": 102}


def labelled_sets(suite: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> list[LabelledConfig]:
    """The labelled sets of a suite, with their data below a directory."""
    for name in ("LACLIP_DATA", "LACLIP_OUTPUT"):
        monkeypatch.setenv(name, "s3://bucket")
    monkeypatch.setenv("EVAL_DATA", str(data))
    monkeypatch.chdir(REPOSITORY)
    return with_absolute_paths(load_experiment(str(SUITES / f"{suite}.yaml")), outputs=False).evaluate.labelled


def make_benchmark_set(root: Path) -> int:
    """A set in CLIP_benchmark's layout with an image of the first and one of the last class; the number of classes."""
    classes = CLASSES.get(root.name, 1_000 if "imagenet" in root.name else 10)
    members = []
    for key, label in (("a", 0), ("b", classes - 1)):
        members += [(f"{key}.webp", picture("WEBP")), (f"{key}.cls", b"%d" % label)]
    write_tar(root / "test" / "0.tar", members)
    (root / "test" / "nshards.txt").write_text("1\n")
    (root / "classnames.txt").write_text("".join(f"class {number}\n" for number in range(classes)))
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    return classes


@pytest.mark.parametrize(("suite", "count"), [("paper", 16), ("robustness", 6), ("retrieval", 0), ("wording", 4)])
def test_every_set_of_a_suite_opens_in_clip_benchmarks_layout(
    suite: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = labelled_sets(suite, tmp_path, monkeypatch)
    assert len(sets) == count
    for config in sets:
        classes = make_benchmark_set(Path(config.path))
        assert len(open_labelled_set(config).class_names) == classes
        assert labels_of(config) == [(0,), (classes - 1,)]
        assert config.expected.keys() == {"test"}


def test_the_sets_of_the_paper_have_the_metrics_of_slip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = labelled_sets("paper", tmp_path, monkeypatch)
    by_class = {config.name for config in sets if config.metric == "mean_per_class"}
    assert by_class == {"aircraft", "pets", "caltech101", "flowers"}


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_the_ids_of_a_subset_are_those_of_timm(name: str) -> None:
    ids = files("timm.data").joinpath("_info", f"{name}_synsets.txt").read_text().split()
    assert [*read_class_subset(str(IDS / f"{name}.txt"), "here").ids] == [(wordnet_id,) for wordnet_id in ids]


def test_objectnets_classes_are_its_directories_in_their_order() -> None:
    subset = read_class_subset(str(IDS / "objectnet.txt"), "here")
    assert len(subset) == 113
    assert [*subset.texts] == sorted(subset.texts)
    assert sum(len(ids) > 1 for ids in subset.ids) == 9


def test_objectnets_original_directories_are_read_without_the_classes_that_imagenet_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config,) = (each for each in labelled_sets("robustness", tmp_path, monkeypatch) if each.name == "objectnet")
    for name in ("alarm_clock", "wok", "air_freshener"):
        (tmp_path / "images" / name).mkdir(parents=True)
        (tmp_path / "images" / name / "0.png").write_bytes(picture())
    config = config.model_copy(update={"path": str(tmp_path / "images"), "class_names": "imagenet"})
    assert open_labelled_set(config).class_names[0] == ["analog clock", "digital clock"]
    assert labels_of(config) == [(), (0,), (112,)]
