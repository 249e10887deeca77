"""The losses of 20 steps on the CPU equal those in `golden_loss.json`, within 1e-5.

The steps take the whole way from shards and rewrite sets on disk to the weights: read, choose texts, crop, tokenise
(`read_entry`), batch in exact order, and step with the scheduled learning rate. Only Ray is left out. After an intended
change, write the file again and review the difference:

    python -m tests.unit.training.test_golden_loss
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.data.entries import Batch, StreamSpec, read_entry
from laclip_ray.models.building import create_model
from laclip_ray.rewriting.running.backlog import find_backlog
from laclip_ray.rewriting.running.pipeline import claim_sets
from laclip_ray.rewriting.storing.sets import RewriteSets, SetSelection, committed_sets
from laclip_ray.training.loss import ContrastiveLoss
from laclip_ray.training.optim import build_optimiser
from laclip_ray.training.run import check_training, describe_stream
from laclip_ray.training.step import Stepper
from tests.unit.conftest import encode, write_tar
from tests.unit.rewriting.shards import Draw, commit

GOLDEN = Path(__file__).with_name("golden_loss.json")
SHARDS, SAMPLES, EPOCHS, BATCH, STEPS = 3, 27, 2, 8, 20
PIXELS = 40
MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
COLOURS = np.array([[220, 40, 40], [40, 200, 60], [50, 60, 210], [230, 210, 50]])
NAMES = ("red", "green", "blue", "yellow")


def write_dataset(directory: Path) -> tuple[Experiment, RewriteSets]:
    """Shards of coloured pictures, each with a caption and up to two rewrites, and the experiment that reads them."""
    (directory / "model.json").write_text(json.dumps(MODEL))
    experiment = parse_experiment(
        {
            "name": "golden",
            "output": str(directory / "out"),
            "data": {"path": str(directory / "data")},
            "rewrite": {"model": "demo-rewriter", "prompt_sets": ["cleaned"]},
            "text": {"p": 0.5},
            "stream": {"order": "exact", "rows_per_block": 16},
            "model": {"name": str(directory / "model.json")},
            "train": {"epochs": EPOCHS, "batch_size": BATCH, "warmup_epochs": 0.5, "precision": "fp32"},
        }
    )
    draws = np.random.Generator(np.random.Philox(7))
    rewrites: dict[str, list[Draw]] = {}
    for shard in range(SHARDS):
        members, rewrites[f"{shard}.tar"] = [], []
        for row in range(SAMPLES):
            colour, sample_id = int(draws.integers(len(NAMES))), f"s{shard}{row:02d}"
            caption = f"picture {row} of something {NAMES[colour]}"
            members += [(f"{sample_id}.png", draw_picture(draws, colour)), (f"{sample_id}.txt", caption.encode())]
            for slot in range(2):
                reason = "too_short" if draws.random() < 0.2 else None
                text = f"a {NAMES[colour]} thing, number {slot}, in view {row}"
                rewrites[f"{shard}.tar"].append(Draw(sample_id, caption, text, reason, slot))
        write_tar(directory / "data" / f"{shard}.tar", members)
    backlog = find_backlog(experiment)
    claim_sets(backlog)
    for shard_name, rows in rewrites.items():
        commit(backlog.sets["cleaned"], shard_name, rows)
    return experiment, committed_sets(SetSelection.of(experiment))


def draw_picture(draws: np.random.Generator, colour: int) -> bytes:
    """A PNG of a colour under noise. PNG, because decoders of JPEG differ by a level."""
    noise = draws.integers(-40, 41, (PIXELS, PIXELS, 3))
    return encode(Image.fromarray((COLOURS[colour] + noise).clip(0, 255).astype(np.uint8)))


def batches_of(spec: StreamSpec) -> Iterator[Batch]:
    """The batches of one worker in exact order, over the whole schedule."""
    blocks = [block for index in range(len(spec.schedule)) for block in read_entry(spec, index, set())]
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    for start in range(0, len(columns["id"]) - BATCH + 1, BATCH):
        yield {name: column[start : start + BATCH] for name, column in columns.items()}


def losses_in(directory: Path) -> list[float]:
    """The loss of each step."""
    experiment, rewrites = write_dataset(directory)
    train = experiment.train
    model_spec, shards = check_training(experiment)
    spec = describe_stream(experiment, model_spec, shards, rewrites)
    model = create_model(model_spec, experiment.seed)
    loss = ContrastiveLoss(train.loss, experiment.text.mode, train.local_loss)
    stepper = Stepper(model, model_spec, build_optimiser(model, train), loss, train, STEPS, torch.device("cpu"))
    batches = list(batches_of(spec))
    assert len(batches) == STEPS
    return [float(stepper.step(batch, step)[0]) for step, batch in enumerate(batches)]


def test_the_losses_of_twenty_steps_are_the_golden_ones(tmp_path: Path) -> None:
    golden: dict[str, Any] = json.loads(GOLDEN.read_text())
    assert losses_in(tmp_path) == pytest.approx(golden["losses"], abs=1e-5)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        losses = losses_in(Path(place))
    GOLDEN.write_text(json.dumps({"losses": [round(loss, 7) for loss in losses]}, indent=1) + "\n")
    print(f"wrote {GOLDEN}")
