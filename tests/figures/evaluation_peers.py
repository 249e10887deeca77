"""Evaluation against CLIP_benchmark, on the same export and the same sets."""

import io
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from laclip_ray.config import parse_experiment
from laclip_ray.demo.world import write_world
from laclip_ray.evaluation.run import run_evaluation
from laclip_ray.models.building import create_model
from laclip_ray.models.files import save_model
from laclip_ray.models.specs import load_model_spec
from tests.figures.figure import Figure
from tests.integration.procedures import REPOSITORY, real_data
from tests.unit.conftest import write_tar

_ENVIRONMENT = REPOSITORY / "build" / "peers" / "clip-benchmark"
_PACKAGES = ("clip-benchmark==1.6.2", "webdataset==1.0.2", "braceexpand", "pycocoevalcap", "pycocotools")
CLASSES, IMAGES_OF_A_CLASS, CAPTIONED = 20, 12, 120
_NAMES = {
    "acc1": "top1",
    "acc5": "top5",
    "mean_per_class_recall": "mean_per_class",
    "image_retrieval_recall@5": "text_to_image_r5",
    "text_retrieval_recall@5": "image_to_text_r5",
}
"""CLIP_benchmark's names of metrics, and ours."""


@dataclass(frozen=True)
class _Set:
    name: str
    path: Path
    captions: int = 0
    """Captions of an image; 0 for a labelled set."""


def clip_benchmark(show: int) -> Iterator[Figure]:
    """The largest difference of any metric from CLIP_benchmark's, by set."""
    python = _environment()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        spec = load_model_spec(str(REPOSITORY / "laclip_ray" / "demo" / "clip.json"))
        (directory / "export").mkdir()
        save_model(directory / "export", create_model(spec, seed=0), spec)
        write_world(directory / "world", train_count=1, retrieval_count=1)
        world = _Set("the demo's world", directory / "world")
        sets = [_labelled(directory), world, *(_captioned(directory, count) for count in (1, 2, 5))]
        if (data := real_data()) is not None:
            sets.append(_Set("clothing-cc0", data / "clothing-cc0"))
        for each in sets:
            theirs, ours = _theirs(python, directory, each), _ours(directory, each)
            common = {name: ours[own] for name, own in _NAMES.items() if name in theirs}
            difference = max(abs(theirs[name] - value) for name, value in common.items())
            yield Figure(
                show, f"{each.name}: largest difference of {len(common)} metrics", difference, "", at_most=1e-4
            )


def _environment() -> str:
    """The Python of an environment with CLIP_benchmark beside this project's packages."""
    python, uv = _ENVIRONMENT / "bin" / "python", REPOSITORY / "build" / "uv" / "bin" / "uv"
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", _ENVIRONMENT], check=True)
        (_ENVIRONMENT / "lib" / "python3.11" / "site-packages" / "project.pth").write_text(
            f"{Path(np.__file__).parents[1]}\n"
        )
        subprocess.run([uv, "pip", "install", "--quiet", "--no-deps", "--python", python, *_PACKAGES], check=True)
    return str(python)


def _picture(random: np.random.Generator) -> bytes:
    blocks = Image.fromarray(random.integers(0, 255, (6, 6, 3), np.uint8))
    buffer = io.BytesIO()
    blocks.resize((70 + int(random.integers(60)), 64)).save(buffer, "PNG")
    return buffer.getvalue()


def _labelled(directory: Path) -> _Set:
    """A set of 20 classes, one of which has no name."""
    random, path = np.random.Generator(np.random.Philox(1)), directory / "twenty"
    images = [(label, _picture(random)) for _ in range(IMAGES_OF_A_CLASS) for label in range(CLASSES)]
    members = [
        (f"{n:05}.{suffix}", content)
        for n, (label, image) in enumerate(images)
        for suffix, content in (("png", image), ("cls", str(label).encode()))
    ]
    write_tar(path / "test" / "0.tar", members)
    (path / "test" / "nshards.txt").write_text("1")
    names = ["" if label == 7 else f"thing number {label}" for label in range(CLASSES)]
    (path / "classnames.txt").write_text("\n".join(names))
    (path / "zeroshot_classification_templates.txt").write_text("a {c}\na photo of a {c}.\n")
    return _Set("20 classes, one without a name", path)


def _captioned(directory: Path, captions: int) -> _Set:
    random, path = np.random.Generator(np.random.Philox(captions)), directory / f"captions{captions}"
    members = []
    for n in range(CAPTIONED):
        lines = [f"picture {n} in words {word} and {n % 7}" for word in range(captions)]
        members += [(f"{n:05}.png", _picture(random)), (f"{n:05}.txt", "\n".join(lines).encode())]
    write_tar(path / "test" / "0.tar", members)
    (path / "test" / "nshards.txt").write_text("1")
    (path / "dataset_type.txt").write_text("retrieval")
    return _Set(f"retrieval, {captions} captions an image", path, captions)


def _theirs(python: str, directory: Path, of: _Set) -> dict[str, float]:
    output = directory / "theirs.json"
    task = "zeroshot_retrieval" if of.captions else "zeroshot_classification"
    arguments = {
        "--model": f"local-dir:{directory / 'export'}", "--pretrained": "", "--dataset": f"wds/{of.path.name}",
        "--dataset_root": str(of.path), "--task": task, "--output": str(output), "--num_workers": "0",
    }  # fmt: skip
    command = [python, "-m", "clip_benchmark.cli", "eval", *(part for pair in arguments.items() for part in pair)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([*command, "--no_amp"], check=True, cwd=directory, env=environment, capture_output=True)
    return dict(json.loads(output.read_text())["metrics"])


def _ours(directory: Path, of: _Set) -> dict[str, Any]:
    data = {"path": str(of.path / "test"), "exif": False}
    evaluate: dict[str, Any] = {"checkpoint": str(directory / "export")}
    if of.captions:
        evaluate["retrieval"] = [{"name": "set", "data": data}]
    else:
        evaluate["labelled"] = [{"name": "set", "path": str(of.path)}]
    output = str(directory / "ours" / of.path.name)
    experiment = parse_experiment({"name": "peers", "output": output, "data": data, "evaluate": evaluate})
    (result,) = run_evaluation(experiment)["results"]
    return dict(result)
