"""A directory in which the documented commands run: every path that they name exists there, small."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.documentation import REPOSITORY
from tests.layouts import CAPTIONS, picture
from tests.unit.conftest import write_tar

MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
SAMPLES_PER_TAR = 12
SMALL: dict[str, Any] = {
    "rewrite": {"model": "demo-rewriter", "mode": "completion", "revision": None, "engine": {"args": {}}},
    "model": {"name": "model.json"},
    "stream": {"rows_per_block": 8},
    "train": {
        **{"epochs": 1, "batch_size": 8, "workers": 1, "cpus_per_worker": 1, "warmup_epochs": 0.5},
        **{"log_every_steps": 1, "checkpoint": {"every_steps": 100}},
    },
    "ray": {"autoscaling": False},
}
"""What every config of the world has: a rewriter that needs no hub, a tiny CLIP, few steps."""
CLASSES = ("fox", "owl", "hare")
PAPER_SETS = ("chatgpt", "bard", "mscoco", "human")
VARIABLES = {"LACLIP_TEST_DATA": "data", "LACLIP_DATA": "datasets", "LACLIP_OUTPUT": "outputs"}
"""Variables of the example configs, and their directories in the world."""


def write_world(root: Path) -> None:
    """Write the data, the configs and the other files that pages name.

    Args:
        root: an empty directory.
    """
    (root / "model.json").write_text(json.dumps(MODEL))
    write_pictures(root / "birds", 4)
    write_pictures(root / "data" / "fluent-emoji", 6)
    write_captions(root / "data" / "cc3m-validation.tsv")
    write_labelled(root / "data" / "clothing-cc0")
    write_labelled(root / "datasets" / "imagenet1k")
    for name in ("cc12m", "laion400m"):
        write_pictures(root / "datasets" / name, 2)
    write_configs(root)
    write_authors_files(root)
    labelled = (REPOSITORY / "tests" / "data" / "labelled" / "held_out.jsonl").read_text().splitlines(keepends=True)
    (root / "labelled.jsonl").write_text("".join(labelled[:40]))


def caption_of(number: int) -> str:
    """The caption of a picture; no two have the same."""
    return f"{CAPTIONS[number % len(CAPTIONS)]}, picture {number}"


def write_pictures(directory: Path, tars: int) -> None:
    """WebDataset tars of pictures with captions."""
    for tar in range(tars):
        numbers = range(tar * SAMPLES_PER_TAR, (tar + 1) * SAMPLES_PER_TAR)
        members = [
            (f"{number:09}.{extension}", content)
            for number in numbers
            for extension, content in (("jpg", picture(number)), ("txt", caption_of(number).encode()))
        ]
        write_tar(directory / f"{tar:05}.tar", members)


def write_captions(path: Path) -> None:
    """A table of captions and URLs without a header."""
    path.write_text("".join(f"{caption_of(number)}\thttp://host/{number}.jpg\n" for number in range(20)))


def write_labelled(directory: Path) -> None:
    """A labelled set in CLIP_benchmark's layout."""
    members = [
        (f"{number}.{extension}", content)
        for number in range(9)
        for extension, content in (("jpg", picture(number)), ("cls", str(number % 3).encode()))
    ]
    write_tar(directory / "test" / "0.tar", members)
    (directory / "test" / "nshards.txt").write_text("1")
    (directory / "classnames.txt").write_text("\n".join(CLASSES))
    (directory / "zeroshot_classification_templates.txt").write_text("a {c}\n")


def write_configs(root: Path) -> None:
    """The example configs, made small, at their places."""
    for path in sorted((REPOSITORY / "configs").glob("**/*.yaml")):
        content = merged(yaml.safe_load(path.read_text()), SMALL)
        for labelled in content.get("evaluate", {}).get("labelled", []):
            if "imagenet" in labelled["name"]:
                labelled |= {"class_names": None, "templates": None}
        if path.name == "fluent_emoji.yaml":
            content["evaluate"]["during"] = {}
            content["train"] |= {"epochs": 2, "checkpoint": {"keep_best": "retrieval/fluent-emoji/image_to_text_r1"}}
        target = root / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump(content))
    for variable, directory in VARIABLES.items():
        (root / directory).mkdir(exist_ok=True)
        assert variable.startswith("LACLIP_")


def merged(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config with other values; a mapping in `changes` changes the keys that it has, an empty one replaces."""
    result = dict(content)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and value and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def write_authors_files(root: Path) -> None:
    """Files in the layouts in which the paper's authors publish theirs: lists of pairs, and texts of CC3M and CC12M."""
    pairs = [(f"thing {number} jpg", f"A photo of thing {number}.") for number in range(8)]
    lists: dict[str, list[Any]] = {"coco_caption_list": [[f"one {n}", f"two {n}", f"three {n}"] for n in range(4)]}
    for name in ("chatgpt", "bard", "human"):
        lists[f"{name}_source_caption_list"] = [source for source, _ in pairs]
        lists[f"{name}_target_caption_list"] = [target for _, target in pairs]
    (root / "utils.py").write_text("".join(f"{name} = {value!r}\n" for name, value in lists.items()))
    numbers = range(2 * SAMPLES_PER_TAR)
    rows: dict[str, Sequence[Sequence[str]]] = {
        "cc12m": [(f"train/{number}.jpg", caption_of(number)) for number in reversed(numbers)],
        "cc3m": [(f"{number:09}.jpg", caption_of(number)) for number in numbers],
    }
    for dataset, table in rows.items():
        with (root / f"{dataset}_original.csv").open("w", newline="") as file:
            csv.writer(file).writerows(table)
        for name in PAPER_SETS:
            lines = [f"a photo of {caption}, by {name}\n" for _, caption in table]
            (root / f"{dataset}_{name}.txt").write_text("".join(lines))


def shrink(config: Path) -> None:
    """Make a config that `laclip init` wrote as small as the others."""
    config.write_text(yaml.safe_dump(merged(yaml.safe_load(config.read_text()), SMALL)))
