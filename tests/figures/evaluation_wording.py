"""Figures of robustness to wording: the demo's CLIP and LaCLIP, three seeds, on the same pictures.

LaCLIP trains with the rewrites of three prompt sets. The fourth rewrites the captions of the test pictures, so neither
model has seen its style.
"""

import io
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, with_overrides
from laclip_ray.demo.language import STYLES, alt_text
from laclip_ray.demo.pictures import DEFAULT_SIZE_PX, render
from laclip_ray.demo.run import PROBABILITIES, demo_experiment
from laclip_ray.demo.scenes import draw_scene
from laclip_ray.demo.world import write_world
from laclip_ray.evaluation.run import run_evaluation
from laclip_ray.evaluation.stored_results import compare_outputs
from laclip_ray.intervals import mean_interval
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.training.run import run_training
from tests.figures.figure import Figure
from tests.integration.conftest import write_shard

SEEDS = 3
PICTURES = 600
UNSEEN = "assistant_vivid"
"""The prompt set that rewrites the test captions. Of the four its wording is the farthest from alt-texts."""
METRICS = {
    "zero-shot top-1": ("zero-shot", "world", "top1"),
    "flip rate between templates": ("template-wording", "world", "flip_rate"),
    "text to image R@10 with alt-texts": ("paraphrased-retrieval", "alt-texts", "text_to_image_r10"),
    "the same with unseen rewrites": ("paraphrased-retrieval", "alt-texts", "text_to_image_r10_rewritten"),
    "drop with unseen rewrites": ("paraphrased-retrieval", "alt-texts", "text_to_image_r10_drop"),
    "preferred to hard negatives": ("hard-negatives", "sentences", "preferred"),
    "preferred to other words": ("hard-negatives", "sentences", "other_words"),
    "preferred to other order": ("hard-negatives", "sentences", "other_order"),
}
"""Task, dataset and metric of what is compared."""


def wording(show: int) -> Iterator[Figure]:
    """Train and measure both models with each seed."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        base = _prepare(directory)
        values: dict[tuple[str, str], list[float]] = {}
        for seed in range(SEEDS):
            outputs = {}
            for p, model in zip(PROBABILITIES, ("CLIP", "LaCLIP"), strict=True):
                results, outputs[model] = _measured(base, directory, seed, p)
                for metric, place in METRICS.items():
                    values.setdefault((metric, model), []).append(_value(results, place))
                for result in results["results"]:
                    print(f"{model}, seed {seed}, {result['task']}: {result.get('says', '')}", flush=True)
            for row in compare_outputs(outputs["CLIP"], outputs["LaCLIP"]):
                if (row.task, row.dataset, row.metric) in METRICS.values() and row.difference is not None:
                    print(f"seed {seed}, {row.task}, {row.metric}, LaCLIP - CLIP: {row.difference}", flush=True)
    for metric in METRICS:
        for model in ("CLIP", "LaCLIP"):
            of_seeds = values[metric, model]
            yield Figure(show, f"{metric}, {model}, mean of {SEEDS} seeds", statistics.fmean(of_seeds), "share")
            yield Figure(show, f"{metric}, {model}, standard deviation", statistics.stdev(of_seeds), "share")
        pairs = zip(values[metric, "CLIP"], values[metric, "LaCLIP"], strict=True)
        difference = mean_interval([laclip - clip for clip, laclip in pairs])
        assert difference.half_width is not None
        yield Figure(show, f"{metric}, LaCLIP - CLIP, paired", difference.mean, "share")
        yield Figure(show, f"{metric}, LaCLIP - CLIP, half of the 95 % interval", difference.half_width, "share")


def _prepare(directory: Path) -> Experiment:
    """Draw the world, write both kinds of captions of its test pictures, and rewrite."""
    world = directory / "world"
    write_world(world, retrieval_count=PICTURES)
    samples = []
    for number in range(PICTURES):
        scene = draw_scene("world", 0, "retrieval", number)
        picture = io.BytesIO()
        render(scene, DEFAULT_SIZE_PX).save(picture, "JPEG", quality=88)
        text = alt_text(scene, "alt-texts", 0, number).encode()
        samples.append((f"{number:06d}", {"jpg": picture.getvalue(), "txt": text}))
    write_shard(world / "alt-texts" / "0.tar", samples)
    seen = [style for style in STYLES if style != UNSEEN]
    base = with_overrides(demo_experiment(str(directory)), {"rewrite.prompt_sets": seen, "stream.order": "exact"})
    run_rewriting(base)
    unseen = {
        "output": str(directory / "unseen"),
        "data.path": str(world / "alt-texts"),
        "rewrite.prompt_sets": [UNSEEN],
    }
    run_rewriting(with_overrides(base, unseen))
    return base


def _measured(base: Experiment, directory: Path, seed: int, p: float) -> tuple[dict[str, Any], str]:
    """Train and evaluate one model; its results and where they are."""
    output = directory / f"p{p:g}-seed{seed}"
    world = directory / "world"
    run = with_overrides(
        base,
        {
            "text.p": p,
            "seed": seed,
            "train.output": str(output / "train"),
            "evaluate.output": str(output / "evaluate"),
            "evaluate.labelled": [{"name": "world", "path": str(world), "wording": True}],
            "evaluate.retrieval": [
                {"name": "sentences", "data": {"path": str(world / "retrieval")}, "wording": {}},
                {
                    "name": "alt-texts",
                    "data": {"path": str(world / "alt-texts")},
                    "wording": {"rewrites": str(directory / "unseen" / "rewrites" / UNSEEN)},
                },
            ],
        },
    )
    run_training(run)
    return run_evaluation(run), storage.join(str(output), "evaluate")


def _value(results: dict[str, Any], place: tuple[str, str, str]) -> float:
    task, dataset, metric = place
    (found,) = [result for result in results["results"] if (result["task"], result["dataset"]) == (task, dataset)]
    return float(found[metric])
