"""Small runs as they leave their outputs: data with pictures, rewrites, metrics, results, a sweep; made without Ray."""

import io
import json
import math
import tarfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.data.records import hash_caption
from laclip_ray.models.files import CONFIG_FILE
from laclip_ray.rewriting.storing.committed import digest_inputs
from laclip_ray.rewriting.storing.recipe_file import RECIPE_FILE
from laclip_ray.rewriting.storing.store import RewriteSet, commit_verdicts, write_draws
from laclip_ray.rewriting.tables import DRAWN, DRAWS_SCHEMA, Origin
from laclip_ray.training.paths import RunPaths
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.stages import Stage

SHARD = "00000.tar"
GATE = "0123456789abcdef"
SETS = ("cleaned", "crowd")
SCRIPT = "<script>document.title = 'broken'; throw new Error('script ran')</script>"
HOSTILE = (
    SCRIPT,
    "\u202eoverride\u202e of the order \u2066\u2067 without an end",
    "long " + "unbroken" * 1_250,
    "a\0b\x1b[31mred\x07",
    "</article></main><img src=http://192.0.2.1/x.png onerror=alert(1)>",
    "' onmouseover='alert(1)\" onload=\"alert(2)",
    "{{ 7 * 7 }}{% include 'page.css.jinja' %}<!-- ]]> &lt;b&gt;",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd (two words)",
    "Z\u0334\u0341\u0342\u0343\u0344" * 40,
)
PLAIN = ("red cup kitchen 4821", "a dog", "blue fish in a bowl", "photo of the old harbour at dusk")


def write_data(directory: Path, captions: Sequence[str]) -> Path:
    """A tar of pictures with these captions."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / SHARD
    with tarfile.open(path, "w") as tar:
        for number, caption in enumerate(captions):
            buffer = io.BytesIO()
            colour = (40 * number % 256, 200 - 20 * number % 200, 120)
            Image.new("RGB", (96, 64 + 8 * (number % 5)), colour).save(buffer, "PNG")
            text = caption.encode("utf-8", "replace")
            for name, content in ((f"{number:06d}.png", buffer.getvalue()), (f"{number:06d}.txt", text)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def experiment(output: Path, data: Path, **sections: Any) -> Experiment:
    """A config of such a run."""
    return parse_experiment(
        {
            "name": "stored",
            "output": str(output),
            "data": {"path": str(data)},
            "rewrite": {"prompt_sets": list(SETS), "model": "some/model"},
            "text": {"p": 0.5},
            "train": {"epochs": 4, "batch_size": 100},
            "tune": {"p": [0.0, 0.4, "uniform"], "seeds": [0, 1]},
            "evaluate": {"labelled": [{"name": "world", "path": "nowhere"}]},
            **sections,
        }
    )


def write_rewrites(location: str, captions: Sequence[str], texts: Sequence[str] | None = None) -> None:
    """Rewrites of the captions by each set: every third is refused."""
    for number, name in enumerate(SETS):
        rewrite_set = RewriteSet(storage.join(location, name), GATE)
        content = {"fingerprint": "f00d", "recipe": {"model": "some/model"}, "written_with": {"vllm": "0.32.0"}}
        storage.write_json(storage.join(rewrite_set.location, RECIPE_FILE), content)
        rows = [
            {
                **{"id": f"{row:06d}", "caption_hash": hash_caption(caption), "caption": caption, "problems": ""},
                **{"draw": 0, "attempt": 0, "head": 0, "outcome": DRAWN, "truncated": False},
                "text": texts[row] if texts is not None else f"A picture of {caption.lower()}.",
                **{"prompt_tokens": 9, "cached_tokens": 4, "output_tokens": 7, "log_probability": -0.5 - 0.1 * row},
            }
            for row, caption in enumerate(captions)
        ]
        draws = pa.Table.from_pylist(rows, schema=DRAWS_SCHEMA)
        reasons = pa.array(["too_short" if (row + number) % 3 == 2 else None for row in range(len(rows))], pa.string())
        meaning = pa.array([0.9 - 0.05 * (row % 9) for row in range(len(rows))], pa.float32())
        inputs = digest_inputs(draws["id"].to_pylist(), draws["caption_hash"].to_pylist())
        origin = Origin("file", inputs, 1, 12.5, 12.5, "d1")
        write_draws(rewrite_set, SHARD, 0, draws, origin)
        commit_verdicts(rewrite_set, SHARD, 0, draws, reasons, origin, {"meaning": meaning}, {"meaning": "m"})


def write_summary_of_rewriting(location: str, captions: int) -> None:
    """The summary of a finished run."""
    counts = {"captions": captions, "accepted": captions, "unfilled": {}}
    content = {
        **{"complete": True, "shards": 1, "missing": {}, "prompt_sets": dict.fromkeys(SETS, counts)},
        **{"gpu_hours": 1.5, "engine_hours": 1.5, "money": 3.0, "currency": "USD", "cost_per_thousand_accepted": 0.25},
    }
    storage.write_json(storage.join(location, "summary.json"), content)


def line(step: int, p: float = 0.5, **changes: Any) -> dict[str, Any]:
    """A line of metrics."""
    return {
        **{"step": step, "unix_time_s": 1.7e9 + 3 * step, "epoch": step / 10, "samples": 100 * step, "batch_size": 100},
        **{"loss": 2 + 3 * math.exp(-step / 9), "learning_rate": 1e-3, "logit_scale": 14.3 + step / 10},
        **{"p": p, "p_effective": p * 0.98, "fallbacks": {"no_rewrite": step}, "unscored": 0},
        **{"images_per_s": 300 + 20 * math.sin(step), "waiting_share": 0.1, "skipped": {}, "skipped_batches": 0},
        **changes,
    }


def write_training(of: Experiment, steps: int, is_finished: bool = True) -> RunPaths:
    """A training run after some of its 40 steps."""
    paths = RunPaths(of.train_output)
    storage.write_json(paths.experiment, of.as_written())
    lines = "".join(json.dumps(line(step, float(str(of.text.p)))) + "\n" for step in range(1, steps + 1))
    storage.write_bytes(paths.metrics, lines.encode())
    if is_finished:
        storage.write_json(storage.join(paths.export, CONFIG_FILE), {})
        lineage = {"rewrite_sets": [{"location": "rewrites/cleaned", "fingerprint": "f00d", "committed_digest": "d"}]}
        summary = {"steps": steps, "epochs": 4, "samples": 100 * steps, "lineage": lineage, "export": paths.export}
        storage.write_json(paths.summary, summary)
    return paths


def write_evaluation(location: str, top1: float = 0.45) -> None:
    """Results with and without wording."""
    entries: list[dict[str, Any]] = [
        {
            **{"task": "zero-shot", "dataset": "world", "top1": top1, "mean_per_class": top1 - 0.01, "images": 120},
            **{"intervals": {"top1": [top1 - 0.08, top1 + 0.08]}, "skipped": 2},
        },
        {
            **{"task": "hard-negatives", "dataset": "emoji", "preferred": 0.61, "images": 90},
            **{"intervals": {"preferred": [0.5, 0.7]}, "says": "Images prefer their caption: the model reads words."},
        },
        {"task": "retrieval", "dataset": "emoji", "no_result": "every image was skipped"},
    ]
    content = {
        **{"checkpoint": "train/export", "weights_digest": "beef", "versions": {"torch": "2.13.0"}},
        **{"sets": 3, "sets_measured": 3, "results": entries, "averages": {}},
    }
    storage.write_json(storage.join(location, "results.json"), content)


def write_sweep(of: Experiment) -> SweepPaths:
    """A finished sweep: three values of p, two seeds."""
    paths = SweepPaths(of.tune_output)
    storage.write_json(paths.record, {"settings": {}, "rewrite_revisions": {}, "epochs": [4]})
    for name, p in (("p0", 0.0), ("p0.4", 0.4), ("puniform", "uniform")):
        storage.write_json(paths.values(name), {"text.p": p})
        for seed in (0, 1):
            run = storage.join(paths.run(name, seed), "train")
            storage.write_json(RunPaths(run).experiment, of.as_written())
            top1 = 0.3 + (0.2 if p == 0.4 else 0.1 if p else 0.0) + 0.01 * seed
            metrics = {"zero-shot/world/top1": top1, "zero-shot/world/mean_per_class": top1 - 0.02}
            stage = Stage(name, {"text.p": p}, seed, 4, metrics, 0.4, 4_000, 0.01, None)
            storage.write_json(paths.stage(name, seed, 4), asdict(stage))
    return paths


def whole_run(directory: Path, captions: Sequence[str] = PLAIN, name: str = "run") -> Experiment:
    """A run with every part but a sweep, finished."""
    data = write_data(directory / f"{name}-data", captions)
    of = experiment(directory / name, data)
    write_rewrites(of.rewrite_output, captions, None if captions == PLAIN else captions)
    write_summary_of_rewriting(of.rewrite_output, len(captions))
    write_training(of, 40)
    write_evaluation(of.evaluate_output)
    return of
