"""`laclip demo`: run the whole path on the demo's world, then print a table and write an HTML report.

The demo builds its own experiment and calls the same functions as the other verbs. It skips work that an earlier call
finished in the output directory.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from laclip_ray import storage
from laclip_ray.config import DEMO_REWRITER, Experiment, parse_experiment, with_overrides
from laclip_ray.console import print_rewriting, print_sweep
from laclip_ray.demo.report_parts import rewriting_summaries, rewritten_samples
from laclip_ray.demo.world import write_world
from laclip_ray.errors import UserError
from laclip_ray.evaluation.run import run_evaluation
from laclip_ray.intervals import mean_interval
from laclip_ray.reporting.gallery import RewrittenSample
from laclip_ray.reporting.report import Report, ResultRow, render_report
from laclip_ray.rewriting.engines.engine import BuildEngine, VllmEngine
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.running.result import RewritingResult
from laclip_ray.training.metrics import read_metrics
from laclip_ray.training.run import run_training
from laclip_ray.tuning.paths import REPORT_FILE
from laclip_ray.tuning.sweep import run_sweep
from laclip_ray.versions import package_versions

PROBABILITIES = (0.0, 0.8)
"""CLIP, and LaCLIP with the paper's uniform choice among the caption and four rewrites."""
SWEPT = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Values of p in `laclip demo --sweep`."""
SAMPLES_SHOWN = 24


@dataclass(frozen=True)
class Size:
    """Size of the demo's world and training."""

    train_count: int = 2_000
    """Pictures for training."""
    test_count: int = 600
    """Pictures for zero-shot classification."""
    retrieval_count: int = 200
    """Pictures for retrieval."""
    samples_per_shard: int = 250
    epochs: int = 20
    batch_size: int = 128
    workers: int = 2


@dataclass(frozen=True)
class DemoResult:
    """What the demo has written."""

    page: str
    """Its report."""
    runs: list[str]
    """Outputs of its runs."""
    rows: list[ResultRow] = field(default_factory=list)
    """The results of each run; empty after a sweep."""


def demo_experiment(output: str, model: str | None = None, chat: bool = False, size: Size | None = None) -> Experiment:
    """Build the demo's experiment, with all files under the directory `output`."""
    size = size or Size()
    world = storage.join(output, "world")
    return parse_experiment(
        {
            "name": "demo",
            "output": output,
            "data": {"path": storage.join(world, "train")},
            "rewrite": {
                "model": model or DEMO_REWRITER,
                "mode": "chat" if chat else "completion",
                # Alt-texts of one word are common here, and a synonym is a good rewrite. Many have a meaningless
                # number ("stock 4821"), and a good rewrite drops it.
                "gate": {"min_shared_words": 0, "drop_lost_numbers": False, "meaning": None},
            },
            "model": {"name": str(Path(__file__).parent / "clip.json")},
            "stream": {"crop_scale": [0.7, 1.0]},
            "train": {
                "epochs": size.epochs,
                "batch_size": size.batch_size,
                "workers": size.workers,
                "learning_rate": 1e-3,
                "warmup_epochs": 1,
                "weight_decay": 0.2,
                "channels_last": True,  # a third more images per second: the image tower is convolutional
                "log_every_steps": 26,
                "checkpoint": {"every_steps": 250, "keep": 1},
            },
            # Two training workers and Ray Data's tasks. Rewriting starts the Ray that training uses.
            "ray": {"local_cpus": 4, "dashboard": True},
            "evaluate": {
                "labelled": [{"name": "world", "path": world}],
                "retrieval": [{"name": "world", "data": {"path": storage.join(world, "retrieval")}}],
            },
        },
        where="demo",
    )


def sweep_settings(seeds: int, size: Size) -> dict[str, Any]:
    """Overrides of the demo's experiment for `--sweep`."""
    return {
        "tune.p": list(SWEPT),
        "tune.seeds": list(range(seeds)),
        "tune.evaluate_every_epochs": max(1, size.epochs // 4),
        # Paired comparisons need the same batches in both runs.
        "stream.order": "exact",
        # Two trials run at a time with one worker each. Unlike two workers of one run, they never wait for each other.
        "train.workers": 1,
        "ray.local_cpus": 6,
    }


class _Stages:
    """Prints the name of each stage and records its duration."""

    def __init__(self, console: Console) -> None:
        self.elapsed_s: dict[str, float] = {}
        """By stage."""
        self._console = console

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Time the body of a `with` statement as `stage`."""
        self._console.print(f"[bold]{stage}[/bold]")
        started_s = time.monotonic()
        yield
        self.elapsed_s[stage] = time.monotonic() - started_s


def run_demo(
    console: Console,
    output: str,
    model: str | None = None,
    chat: bool = False,
    seeds: int = 1,
    size: Size | None = None,
    build_engine: BuildEngine = VllmEngine,
    sweep: bool = False,
) -> DemoResult:
    """Run the demo and write `report.html`, or sweep p and write `tune/sweep.html`.

    Args:
        console: prints the table.
        output: a local directory; created if it is missing.
        model: a rewriter other than the packaged one.
        chat: whether that model is an instruct model.
        seeds: number of seeds to train each p with.
        size: size of the world and of training.
        build_engine: creates the engine in each actor.
        sweep: train at many values of p, with Ray Tune.

    Raises:
        UserError: `output` is not a local directory.
    """
    if not storage.is_local(output):
        raise UserError(f"--output: {output!r} is a URL, and the demo writes to a directory; give a local one")
    output = str(Path(output).absolute())
    size = size or Size()
    experiment = demo_experiment(output, model, chat, size)
    if sweep:
        experiment = with_overrides(experiment, sweep_settings(seeds, size))
    stages = _Stages(console)
    with stages.timed("draw the world"):
        write_world(
            Path(output, "world"),
            seed=experiment.seed,
            train_count=size.train_count,
            test_count=size.test_count,
            retrieval_count=size.retrieval_count,
            samples_per_shard=size.samples_per_shard,
        )
    with stages.timed("rewrite its captions"):
        rewriting = run_rewriting(experiment, build_engine)
    print_rewriting(console, rewriting, experiment.rewrite_output)
    if sweep:
        print_sweep(console, run_sweep(experiment))
        return DemoResult(storage.join(experiment.tune_output, REPORT_FILE), [output])
    rows, curves = _train_and_evaluate(experiment, seeds, stages)
    _print_table(console, rows)
    url = storage.join(output, "report.html")
    report = _report(
        rewritten_samples(experiment, SAMPLES_SHOWN, with_images=True), rewriting, rows, curves, stages.elapsed_s
    )
    page = render_report(report, half_width=lambda values: mean_interval(values).half_width)
    storage.write_bytes(url, page.encode())
    return DemoResult(url, [_run_output(output, row.p, row.seed) for row in rows], rows)


def _run_output(output: str, p: float, seed: int) -> str:
    """Where a run trains and is evaluated."""
    return storage.join(output, f"p{p:g}-seed{seed}")


def _train_and_evaluate(
    experiment: Experiment, seeds: int, stages: _Stages
) -> tuple[list[ResultRow], dict[str, list[tuple[float, float]]]]:
    """Train and evaluate at every p with every seed.

    Returns:
        A row for each run, and by the run's name its (epoch, loss) points.
    """
    rows, curves = [], {}
    for seed in range(seeds):
        for p in PROBABILITIES:
            name = f"{'LaCLIP' if p else 'CLIP'}, p = {p:g}" + (f", seed {seed}" if seeds > 1 else "")
            directory = _run_output(experiment.output, p, seed)
            run = with_overrides(
                experiment,
                {
                    "text.p": p,
                    "seed": seed,
                    "train.output": storage.join(directory, "train"),
                    "evaluate.output": storage.join(directory, "evaluate"),
                },
            )
            with stages.timed(f"train {name}"):
                training = run_training(run)
            with stages.timed(f"evaluate {name}"):
                evaluation = run_evaluation(run)
            metrics = read_metrics(run.train_output)
            curves[name] = [(row["epoch"], row["loss"]) for row in metrics]
            rows.append(_result(name, p, seed, training.summary, evaluation, metrics))
    return rows, curves


def _result(
    name: str,
    p: float,
    seed: int,
    summary: dict[str, Any],
    evaluation: dict[str, Any],
    metrics: list[dict[str, Any]],
) -> ResultRow:
    by_task = {result["task"]: result for result in evaluation["results"]}
    retrieval = by_task["retrieval"]
    return ResultRow(
        run=name,
        p=p,
        seed=seed,
        p_effective=summary["p_effective"],
        steps=summary["steps"],
        final_loss=metrics[-1]["loss"],
        zero_shot_top1=by_task["zero-shot"]["top1"],
        zero_shot_mean_per_class=by_task["zero-shot"]["mean_per_class"],
        retrieval={name: value for name, value in retrieval.items() if isinstance(value, float)},
    )


def _print_table(console: Console, rows: list[ResultRow]) -> None:
    table = Table(title="zero-shot on held-out pictures of the demo's world", title_justify="left")
    for heading in ("run", "p shown", "steps", "loss", "top-1", "image to text R@10", "text to image R@10"):
        table.add_column(heading, justify="left" if heading == "run" else "right")
    for row in rows:
        table.add_row(
            row.run,
            f"{row.p_effective:.3f}",
            str(row.steps),
            f"{row.final_loss:.3f}",
            f"{row.zero_shot_top1:.1%}",
            f"{row.retrieval['image_to_text_r10']:.1%}",
            f"{row.retrieval['text_to_image_r10']:.1%}",
        )
    console.print(table)
    for p in PROBABILITIES:
        values = [row.zero_shot_top1 for row in rows if row.p == p]
        if len(values) > 1:
            spread = f"{min(values):.1%} to {max(values):.1%}"
            console.print(f"p = {p:g}: mean top-1 {fmean(values):.1%} over {len(values)} seeds ({spread})")


def _report(
    samples: list[RewrittenSample],
    rewriting: RewritingResult,
    rows: list[ResultRow],
    curves: dict[str, list[tuple[float, float]]],
    elapsed_s: dict[str, float],
) -> Report:
    return Report(
        title="laclip demo",
        introduction=[
            "A small world of drawn scenes with terse, noisy alt-texts. A language model rewrote each alt-text in "
            f"{len(rewriting.statistics)} styles. CLIP was trained on the alt-texts alone (p = 0), and with a rewrite "
            "instead of the alt-text with probability p.",
            "The class prompts of the zero-shot test share no wording with the captions. Retrieval captions are full "
            "sentences like the rewriter's, which favours p > 0.",
            "This world is no evidence about natural images.",
        ],
        samples=samples,
        rewriting=rewriting_summaries(rewriting),
        results=rows,
        curves=curves,
        elapsed=elapsed_s,
        notes=[],
        versions=package_versions(),
    )
