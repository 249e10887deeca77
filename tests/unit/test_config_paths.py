"""Local paths become absolute before a verb runs; URLs and names do not change."""

from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import (
    Experiment,
    InputPath,
    LocalPath,
    OutputPath,
    SpaceConfig,
    local_paths,
    marked_keys,
    parse_experiment,
    walk,
    with_absolute_paths,
)

MINIMAL = {"name": "test", "output": "s3://bucket/out", "data": {"path": "s3://bucket/data"}}
PICTURE = "rewrite.gate.picture"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with models and a weights file."""
    monkeypatch.chdir(tmp_path)
    for directory in ("models/clip", "bare", "demo-rewriter"):
        (tmp_path / directory).mkdir(parents=True)
    for file in ("weights.pt", "plain"):
        (tmp_path / file).write_bytes(b"weights")
    return tmp_path


def experiment_with(key: str, value: Any) -> Experiment:
    """The smallest experiment with a value at a key of `walk`: in the only item, where the key has a list of sections.

    `PICTURE`'s model and the items' required keys get values that no test changes.
    """
    content: dict[str, Any] = {
        section: dict(value) if isinstance(value, dict) else value for section, value in MINIMAL.items()
    }
    section: dict[str, Any] = content
    *parents, last = key.split(".")
    for parent in parents:
        if parent.endswith("[]"):
            item: dict[str, Any] = {"name": "x"}
            if parent == "labelled[]":
                item["path"] = "s3://bucket/x"
            elif parent == "sugar_crepe[]":
                item |= {"path": "s3://bucket/x", "images": "s3://bucket/y"}
            elif parent == "others[]":
                item |= {} if last == "checkpoint" else {"checkpoint": "ViT-B-32"}
            elif "data" not in key.split("."):
                item["data"] = {"path": "s3://bucket/x"}
            section[parent[:-2]] = [item]
            section = item
        else:
            section = section.setdefault(parent, {})
    section[last] = value
    if key.startswith(PICTURE):
        section.setdefault("model", "hf-hub:a/b")
    if last in ("index", "image_root"):
        section.setdefault("path", "s3://bucket/x")
    return parse_experiment(content)


def value_at(experiment: Experiment, key: str) -> Any:
    value: Any = experiment
    for name in key.split("."):
        value = getattr(value, name.removesuffix("[]"))
        value = value[0] if name.endswith("[]") else value
    return value


def after(key: str, value: Any, outputs: bool = False) -> Any:
    """The value at `key` once paths are absolute."""
    absolute = with_absolute_paths(experiment_with(key, value), outputs)
    assert with_absolute_paths(absolute, outputs) == absolute
    return value_at(absolute, key)


MODELS = (
    ("out/train/export", "./clip", "bare", "runs/x.pt", "x.pth.tar", "weights.pt", "x.safetensors"),
    ("hf-hub:a/b", "ViT-B-32", "s3://bucket/export", "s3://bucket/x.pt", "https://host/x.pt?download=true"),
)
WEIGHTS = (
    ("weights.pt", "./weights.pt", "missing/x.bin", "plain"),
    ("openai", "laion2b_s34b_b79k", "s3://bucket/x.pt", "https://host/x.pt?download=true"),
)
INPUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "data.path": (("data/*.tar", "./data"), ("s3://bucket/data", "/data")),
    "data.index": (("out/data-index.parquet",), ("s3://bucket/data-index.parquet",)),
    "data.image_root": (("images",), ("s3://bucket/images",)),
    "rewrite.model": (
        ("./model", "../model", "models/clip", "bare"),
        ("Qwen/Qwen3-8B-Base", "demo-rewriter", "s3://bucket/model"),
    ),
    "rewrite.prompt_sets": (("sets/mine.yaml", "mine.yml"), ("cleaned", "/sets/mine.yaml")),
    "rewrite.prices": (("prices.yaml",), ("s3://bucket/prices.yaml",)),
    "rewrite.gate.meaning.model": (
        ("./encoder", "models/clip", "bare"),
        ("sentence-transformers/all-MiniLM-L6-v2", "s3://bucket/encoder"),
    ),
    f"{PICTURE}.model": MODELS,
    f"{PICTURE}.pretrained": WEIGHTS,
    "text.rewrites": (("out/rewrites/cleaned",), ("s3://bucket/rewrites/cleaned",)),
    "model.name": (("models/clip.json",), ("ViT-B-32", "laclip_vit_b16", "s3://bucket/clip.json")),
    "evaluate.checkpoint": MODELS,
    "evaluate.pretrained": WEIGHTS,
    "evaluate.others[].checkpoint": MODELS,
    "evaluate.others[].pretrained": WEIGHTS,
    "evaluate.labelled[].path": (("sets/x",), ("s3://bucket/x",)),
    "evaluate.labelled[].class_names": (("names.txt",), ("imagenet", "/names.txt")),
    "evaluate.labelled[].templates": (("templates.txt", "slip.json"), ("openai", "simple")),
    "evaluate.labelled[].classes": (("wnids.txt",), ("/wnids.txt",)),
    "evaluate.retrieval[].wording.rewrites": (("out/rewrites/cleaned",), ("s3://bucket/rewrites",)),
    "evaluate.sugar_crepe[].path": (("sugar-crepe/data",), ("s3://bucket/x",)),
    "evaluate.sugar_crepe[].images": (("val2017",), ("s3://bucket/x",)),
    "evaluate.retrieval[].data.path": (("shards",), ("s3://bucket/x",)),
    "evaluate.retrieval[].data.index": (("index.parquet",), ("s3://bucket/index.parquet",)),
    "evaluate.retrieval[].data.image_root": (("images",), ("s3://bucket/x",)),
    "ray.shared_paths": (("shared",), ("/shared",)),
}
"""For each input path: local paths, and other values."""
LISTS = ("data.path", "rewrite.prompt_sets", "text.rewrites", "evaluate.retrieval[].data.path", "ray.shared_paths")


def test_every_input_path_is_tested_here() -> None:
    assert INPUTS.keys() == marked_keys(Experiment, InputPath)


@pytest.mark.parametrize("key", INPUTS)
def test_local_paths_become_absolute_and_other_values_do_not_change(key: str, here: Path) -> None:
    paths, others = INPUTS[key]
    if key in LISTS:
        assert after(key, [*paths, *others]) == [*(str(here / path) for path in paths), *others]
        return
    for path in paths:
        assert after(key, path) == str(here / path)
    for value in others:
        assert after(key, value) == value


@pytest.mark.parametrize("key", ["data.path", "evaluate.retrieval[].data.path"])
def test_one_path_stays_one_path(key: str, here: Path) -> None:
    assert after(key, "shards") == str(here / "shards")


@pytest.mark.parametrize("key", sorted(marked_keys(Experiment, OutputPath)))
def test_outputs_become_absolute_only_if_asked(key: str, here: Path) -> None:
    assert after(key, "runs/x", outputs=True) == str(here / "runs/x")
    assert after(key, "runs/x", outputs=False) == "runs/x"
    assert after(key, "s3://bucket/x", outputs=True) == "s3://bucket/x"


@pytest.mark.parametrize("key", [f"{PICTURE}.model", "evaluate.checkpoint"])
def test_the_mark_of_a_directory_stays_before_its_path(key: str, here: Path) -> None:
    assert after(key, "local-dir:models/clip") == f"local-dir:{here}/models/clip"
    assert after(key, "local-dir:/models/clip") == "local-dir:/models/clip"


@pytest.mark.parametrize("section", [PICTURE, "evaluate"])
def test_a_model_with_weights_beside_it_is_a_name(section: str, here: Path) -> None:
    key = f"{section}.checkpoint" if section == "evaluate" else f"{section}.model"
    content = experiment_with(key, "bare").model_dump(mode="json")
    named = content["evaluate"] if section == "evaluate" else content["rewrite"]["gate"]["picture"]
    named["pretrained"] = "weights.pt"
    absolute = with_absolute_paths(parse_experiment(content), outputs=False)
    assert value_at(absolute, key) == "bare"
    assert value_at(absolute, f"{section}.pretrained") == str(here / "weights.pt")


def test_swept_paths_become_absolute(here: Path) -> None:
    content = {
        **MINIMAL,
        "tune": {
            "space": {
                "text.rewrites": {"grid": [None, ["sets/a", "s3://bucket/b"]]},
                "model.name": {"grid": ["ViT-B-32", "models/clip.json"]},
                "train.learning_rate": {"log_uniform": [1e-4, 1e-2]},
            }
        },
    }
    space = with_absolute_paths(parse_experiment(content), outputs=True).tune.space
    assert space["text.rewrites"].grid == [None, [str(here / "sets/a"), "s3://bucket/b"]]
    assert space["model.name"].grid == ["ViT-B-32", str(here / "models/clip.json")]
    assert space["train.learning_rate"] == SpaceConfig(log_uniform=(1e-4, 1e-2))


def test_files_of_a_package_keep_their_relative_path_in_what_a_run_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {
        **MINIMAL,
        "rewrite": {"prompt_sets": ["cleaned", "sets/mine.yaml"]},
        "model": {"name": "clip.json"},
        "evaluate": {"labelled": [{"name": "x", "path": "s3://bucket/x", "templates": "/slip.txt"}]},
        "tune": {"space": {"model.name": {"grid": ["ViT-B-32", "clip.json"]}}},
    }
    written = []
    for package in ("_ray_pkg_1", "_ray_pkg_2"):
        (tmp_path / package).mkdir()
        monkeypatch.chdir(tmp_path / package)
        experiment = with_absolute_paths(parse_experiment(content), outputs=False, in_package=True)
        assert experiment.model.name == str(tmp_path / package / "clip.json")
        assert experiment.rewrite.prompt_sets[1] == str(tmp_path / package / "sets/mine.yaml")
        written.append(experiment.as_written())
    assert written[0] == written[1]
    assert written[0]["model"]["name"] == "clip.json"
    assert written[0]["rewrite"]["prompt_sets"] == ["cleaned", "sets/mine.yaml"]
    assert written[0]["tune"]["space"]["model.name"]["grid"] == ["ViT-B-32", "clip.json"]
    assert written[0]["evaluate"]["labelled"][0]["templates"] == "/slip.txt"


@pytest.mark.parametrize("key", INPUTS)
def test_local_paths_are_listed_and_other_values_are_not(key: str) -> None:
    paths, others = INPUTS[key]
    for value in (*paths, *others):
        is_listed = value in paths or value.startswith("/")
        listed = local_paths(experiment_with(key, [value] if key in LISTS else value))
        assert [each.path for each in listed if each.key == key] == [value] * is_listed
        assert not any(each.is_output for each in listed)


@pytest.mark.parametrize("key", sorted(marked_keys(Experiment, OutputPath)))
def test_local_outputs_are_listed_as_such(key: str) -> None:
    assert local_paths(experiment_with(key, "runs/x")) == [LocalPath(key, "runs/x", is_output=True, travels=False)]


def test_files_of_settings_travel() -> None:
    travelling = {facts.key for facts in walk(Experiment) if (marker := facts.marker(InputPath)) and marker.travels}
    assert travelling == {
        *("rewrite.prompt_sets", "rewrite.prices", "model.name"),
        *(f"evaluate.labelled[].{key}" for key in ("class_names", "templates", "classes")),
    }
