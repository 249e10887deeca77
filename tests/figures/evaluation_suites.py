"""Figures of suites: each of `configs/evaluation/` on generated sets of its layout, and four layouts by one command."""

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from laclip_ray.models.building import create_model
from laclip_ray.models.files import save_model
from laclip_ray.models.specs import load_model_spec
from tests.figures.figure import Figure, exit_code
from tests.integration.conftest import MODEL, jpeg, write_shard
from tests.integration.procedures import REPOSITORY, child_environment

SUITES = REPOSITORY / "configs" / "evaluation"
IMAGES = 6
_CLASSES = {"wds_imagenet-a": 200, "wds_imagenet-r": 200, "wds_objectnet": 113}


def suites(show: int) -> Iterator[Figure]:
    """Each file as a user runs it, with the counts of the generated sets instead of the published ones."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        spec_file = directory / "model.json"
        spec_file.write_text(json.dumps(MODEL))
        spec = load_model_spec(str(spec_file))
        (directory / "export").mkdir()
        save_model(directory / "export", create_model(spec, seed=0), spec)
        for suite in sorted(SUITES.glob("*.yaml")):
            yield from _suite(show, directory, suite)
        yield from _four_layouts(show, directory)


def _suite(show: int, directory: Path, suite: Path) -> Iterator[Figure]:
    content = yaml.safe_load(suite.read_text())
    labelled, retrieval = (content["evaluate"].get(kind, []) for kind in ("labelled", "retrieval"))
    for each in labelled:
        _write_labelled(directory / each["path"].removeprefix("${EVAL_DATA}/"))
    for each in retrieval:
        _write_captioned(directory / each["data"]["path"].removeprefix("${EVAL_DATA}/"))
    if labelled:
        code, results = _evaluate(directory, suite, f"{suite.stem}-published")
        refused = {entry["dataset"] for entry in results if "expected" in entry.get("no_result", "")}
        count = len(labelled)
        yield exit_code(show, f"{suite.name}, other counts than the published ones: exit code", code, 3)
        yield Figure(show, f"{suite.name}: sets of {count} that are refused", len(refused), "", at_least=count)
    for each in labelled:
        each["expected"] = {"test": IMAGES}
    own = directory / suite.name
    own.write_text(yaml.safe_dump(content))
    code, results = _evaluate(directory, own, suite.stem)
    measured = {entry["dataset"] for entry in results if "no_result" not in entry}
    yield exit_code(show, f"{suite.name}, the generated counts: exit code", code)
    sets = len(labelled) + len(retrieval)
    yield Figure(show, f"{suite.name}: sets of {sets} with numbers", len(measured), "", at_least=sets)


def _evaluate(directory: Path, config: Path, name: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of `laclip evaluate`, and the entries of its results."""
    environment = {
        **child_environment(),
        "EVAL_DATA": str(directory), "LACLIP_DATA": str(directory / "none"), "LACLIP_OUTPUT": str(directory / "out"),
    }  # fmt: skip
    output = directory / "results" / name
    done = subprocess.run(
        [
            sys.executable, "-m", "laclip_ray", "evaluate", str(config), f"evaluate.output={output}",
            f"evaluate.checkpoint={directory / 'export'}",
        ],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    if not (output / "results.json").exists():
        raise RuntimeError(f"{config.name}: {done.stderr[-2000:]}")
    return done.returncode, json.loads((output / "results.json").read_text())["results"]


def _write_labelled(root: Path) -> None:
    """A set in CLIP_benchmark's layout; ImageNet's have as many classes as the real ones."""
    classes = _CLASSES.get(root.name, 1_000 if "imagenet" in root.name else 10)
    samples = [
        (f"{n}", {"jpg": jpeg(n), "cls": str(n * (classes - 1) // (IMAGES - 1)).encode()}) for n in range(IMAGES)
    ]
    write_shard(root / "test" / "0.tar", samples)
    (root / "test" / "nshards.txt").write_text("1\n")
    (root / "classnames.txt").write_text("".join(f"class {number}\n" for number in range(classes)))
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\na drawing of a {c}.\n")


def _write_captioned(root: Path) -> None:
    colours = ("red", "blue", "green", "white", "black", "yellow")
    samples = [
        (f"{n}", {"jpg": jpeg(n), "txt": f"a {colour} dog beside two cats\na {colour} dog and cats".encode()})
        for n, colour in enumerate(colours)
    ]
    write_shard(root / "0.tar", samples)
    (root / "nshards.txt").write_text("1\n")
    (root.parent / "dataset_type.txt").write_text("retrieval")


def _four_layouts(show: int, directory: Path) -> Iterator[Figure]:
    """The same pictures in four layouts, by one command."""
    names = ("fox", "hare", "owl")
    labels = [n % len(names) for n in range(IMAGES)]
    pictures = [jpeg(n) for n in range(IMAGES)]
    write_shard(
        directory / "webdataset" / "test" / "0.tar",
        [(f"{n}", {"jpg": pictures[n], "cls": str(label).encode()}) for n, label in enumerate(labels)],
    )
    (directory / "webdataset" / "test" / "nshards.txt").write_text("1\n")
    (directory / "webdataset" / "classnames.txt").write_text("\n".join(names))
    (directory / "parquet").mkdir()
    features = {"label": {"names": list(names), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    table = pa.table({"image": [{"bytes": each, "path": None} for each in pictures], "label": labels})
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), directory / "parquet" / "test-00000-of-00001.parquet")
    (directory / "csv").mkdir()
    with (directory / "csv" / "test.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for n, label in enumerate(labels):
            path = directory / "folders" / "test" / names[label] / f"{n}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pictures[n])
            (directory / "csv" / f"{n}.jpg").write_bytes(pictures[n])
            writer.writerow([f"{n}.jpg", names[label]])
    layouts = ("webdataset", "folders", "parquet", "csv")
    sets = [{"name": name, "path": str(directory / name), "templates": "simple"} for name in layouts]
    config = directory / "layouts.yaml"
    data = {"path": str(directory / "none")}
    content: Mapping[str, Any] = {
        "name": "layouts", "output": str(directory / "out"), "data": data, "evaluate": {"labelled": sets},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(content))
    code, results = _evaluate(directory, config, "layouts")
    yield exit_code(show, "one command, four layouts of the same pictures: exit code", code)
    different = len({json.dumps([entry["top1"], entry["mean_per_class"]]) for entry in results})
    assert len(results) == len(layouts)
    yield Figure(show, "different results of the four layouts", different, "", at_least=1, at_most=1)
