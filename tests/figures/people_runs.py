"""Runs whose reports `people_pages` opens: the demo, a sweep, real pictures with a real small model, a run in progress.

    python -m tests.figures.people_runs DIRECTORY    # makes what is missing

All are small: their numbers say nothing, their outputs have everything that a report shows.
"""

import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from laclip_ray.config import Experiment, parse_experiment, to_yaml, with_overrides
from laclip_ray.demo.run import Size, demo_experiment, run_demo, sweep_settings
from laclip_ray.evaluation.run import run_evaluation
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.training.run import run_training
from tests.integration.procedures import REPOSITORY, real_data, wait_for
from tests.real_models import real_model

SIZE = Size(train_count=600, test_count=120, retrieval_count=60, samples_per_shard=200, epochs=4, batch_size=100)
EMOJI = 40
"""Pictures that the real model describes anew: it writes about one text a second."""
PREVIEWED = 12


def demo(directory: Path) -> Path:
    """The demo, smaller; its output."""
    output = directory / "demo"
    run_demo(Console(stderr=True), str(output), size=SIZE)
    return output


def sweep(directory: Path) -> Path:
    """The demo's sweep, smaller, with two seeds; its output. Reads the demo's rewrites if they are there."""
    output = directory / "demo"
    experiment = with_overrides(
        demo_experiment(str(output), size=SIZE),
        {
            **sweep_settings(2, SIZE),
            "tune.p": [0.0, 0.4, "uniform"],
            "train.epochs": 2,
            "tune.evaluate_every_epochs": 1,
        },
    )
    from laclip_ray.tuning.sweep import run_sweep

    run_sweep(experiment)
    return Path(experiment.tune_output)


def emoji_experiment(directory: Path) -> Experiment:
    """Pictures with alt-texts, a real small model, its gate, and every part of an evaluation of captions."""
    data = real_data()
    assert data is not None
    few = directory / "emoji-data"
    for name, count in (("00001.tar", EMOJI), ("00000.tar", 100)):
        _first_samples(data / "fluent-emoji" / name, few / name, count)
    return parse_experiment(
        {
            "name": "fluent-emoji",
            "output": str(directory / "emoji"),
            "data": {"path": str(few / "00001.tar"), "held_out": 0.2},
            "rewrite": {
                "model": str(real_model("smollm2-135m-instruct")),
                "mode": "chat",
                "prompt_sets": ["cleaned", "crowd"],
                "price": "rtx-4090",
                "gate": {"meaning": {"model": str(real_model("all-minilm-l6-v2"))}},
            },
            "text": {"p": 0.5},
            "model": {"name": str(REPOSITORY / "laclip_ray/demo/clip.json")},
            "train": {
                **{"epochs": 12, "batch_size": 16, "workers": 1, "learning_rate": 1e-3, "warmup_epochs": 1},
                **{"log_every_steps": 2, "expected_images_per_s": 50},
            },
            "ray": {"local_cpus": 4},
            "evaluate": {
                "retrieval": [
                    {
                        "name": "fluent-emoji",
                        "data": {"path": str(few / "00000.tar")},
                        "wording": {"hard_negatives": True},
                    }
                ]
            },
        }
    )


def emoji(directory: Path) -> Path:
    """Real pictures and a real small model; the output."""
    experiment = emoji_experiment(directory)
    run_rewriting(experiment)
    run_training(experiment)
    run_evaluation(experiment)
    (directory / "emoji.yaml").write_text(to_yaml(experiment))
    return Path(experiment.output)


def preview(directory: Path) -> Path:
    """A preview of the same pictures; its page."""
    page = directory / "preview.html"
    if not page.exists():
        command = [sys.executable, "-m", "laclip_ray", "rewrites", "preview", str(directory / "emoji.yaml")]
        subprocess.run([*command, "--captions", str(PREVIEWED), "--page", str(page)], check=True)
    return page


def _first_samples(source: Path, target: Path, count: int) -> None:
    """Copy the first samples of a tar."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    keys: list[str] = []
    unfinished = target.with_suffix(".part")
    with tarfile.open(source) as read, tarfile.open(unfinished, "w") as written:
        for member in read:
            key = member.name.partition(".")[0]
            if key not in keys:
                keys.append(key)
            if len(keys) > count:
                break
            written.addfile(member, read.extractfile(member))
    unfinished.replace(target)


@contextmanager
def in_progress(directory: Path) -> Iterator[Path]:
    """Training of the demo's world that runs meanwhile; its output."""
    output = directory / "running"
    experiment = with_overrides(
        demo_experiment(str(output), size=SIZE),
        {
            "data.path": str(directory / "demo" / "world" / "train"),
            "rewrite.output": str(directory / "demo" / "rewrites"),
            **{"text.p": 0.8, "train.epochs": 400, "train.log_every_steps": 2, "train.checkpoint.every_steps": 12},
        },
    )
    config = directory / "running.yaml"
    config.write_text(to_yaml(experiment))
    metrics = Path(experiment.train_output) / "metrics.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "laclip_ray", "train", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for(lambda: process.poll() is not None or metrics.exists(), 240, "a line of metrics")
        assert process.poll() is None, "training has ended"
        yield output
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


RUNS: dict[str, Callable[[Path], Path]] = {"demo": demo, "emoji": emoji, "sweep": sweep, "preview": preview}


def made_runs(directory: Path) -> dict[str, Path]:
    """The outputs of all finished runs, made if they are missing."""
    return {name: make(directory) for name, make in RUNS.items()}


if __name__ == "__main__":
    chosen = sys.argv[2:] or [*RUNS]
    for name in chosen:
        print(name, RUNS[name](Path(sys.argv[1])), flush=True)
