"""Figures of runs that an earlier commit began: the present code reads and resumes them.

The earlier commit runs from a clone of this repository, in the same environment. It finishes a rewriting, a training
and a sweep, and is killed in the middle of one of each. Then the present code runs the same commands.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

from laclip_ray import storage
from tests.figures.figure import Figure, exit_code
from tests.structure import REPOSITORY

EARLIER_COMMIT = "a3551fc"
"""The last commit before modules were split and renamed."""
TIMEOUT_S = 300
EPOCHS, IMAGES, BATCH = 6, 800, 64
MODEL = "laclip_ray/demo/clip.json"
_START = """
import sys
from pathlib import Path
from laclip_ray import cli
code = Path(sys.argv.pop(1))
assert Path(cli.__file__).is_relative_to(code), cli.__file__
cli.main()
"""
"""A program that runs a verb of the checkout in its first argument, and of no other."""


@dataclass(frozen=True)
class Place:
    """Where the earlier and the present code run, on the same data and outputs."""

    directory: Path

    @property
    def earlier(self) -> Path:
        """The clone at the earlier commit."""
        return self.directory / "earlier"

    @property
    def config(self) -> Path:
        """The config that both read."""
        return self.directory / "config.yaml"

    def command(self, code: Path, verb: str, output: str) -> list[str]:
        """A verb's command line by a checkout's code, with its own outputs below `output` and the finished rewrites."""
        root = self.directory / output
        # Training and sweeps of any output read the rewrites of the finished run.
        rewrites = root if verb == "rewrite" else self.directory / "finished"
        overrides = [
            f"output={root}",
            f"rewrite.output={rewrites / 'rewrites'}",
        ]
        return [sys.executable, "-c", _START, str(code), verb, str(self.config), *overrides]

    def environment(self, code: Path) -> dict[str, str]:
        """An environment in which `laclip_ray` is the one of a checkout."""
        return {**os.environ, "PYTHONPATH": str(code)}


def prepare(directory: Path) -> Place:
    """Clone the earlier commit, and write data and config."""
    place = Place(directory)
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(place.earlier)], check=True)
    subprocess.run(["git", "-C", str(place.earlier), "checkout", "-q", EARLIER_COMMIT], check=True)
    shutil.copy(REPOSITORY / MODEL, directory / "model.json")
    world = directory / "world"
    program = (
        "from pathlib import Path; from laclip_ray.demo.world import write_world; "
        f"write_world(Path({str(world)!r}), train_count={IMAGES}, test_count=120, retrieval_count=20, "
        "samples_per_shard=50)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=place.environment(place.earlier))
    content = {
        "name": "resumed",
        "output": str(directory / "unused"),
        "data": {"path": str(world / "train")},
        "rewrite": {
            "model": "demo-rewriter",
            "gate": {"min_shared_words": 0, "drop_lost_numbers": False},
            "prompt_sets": ["crowd", "cleaned"],
            "engine": {"args": {"max_num_seqs": 64, "dtype": "bfloat16"}},
        },
        "model": {"name": str(directory / "model.json")},
        "text": {"p": 0.5},
        "train": {
            "epochs": EPOCHS,
            "batch_size": BATCH,
            "workers": 2,
            "log_every_steps": 5,
            "checkpoint": {"every_steps": 10, "keep": 1},
        },
        "tune": {"p": [0.0, 0.5], "seeds": [0], "evaluate_every_epochs": 3},
        "ray": {"local_cpus": 5},
        "evaluate": {"labelled": [{"name": "world", "path": str(world)}]},
    }
    place.config.write_text(yaml.safe_dump(content))
    return place


def run(place: Place, code: Path, verb: str, output: str) -> int:
    """Run a verb to its end; its exit code."""
    done = subprocess.run(
        place.command(code, verb, output),
        env=place.environment(code),
        cwd=place.directory,
        timeout=2 * TIMEOUT_S,
        check=False,
    )
    return done.returncode


def kill_in_the_middle(place: Place, verb: str, output: str, has_begun: Callable[[], bool]) -> None:
    """Start a verb of the earlier code, and kill it and all its processes once it has made something."""
    process = subprocess.Popen(
        place.command(place.earlier, verb, output),
        env=place.environment(place.earlier),
        cwd=place.directory,
        start_new_session=True,
    )
    deadline_s = time.monotonic() + TIMEOUT_S
    while not has_begun():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"{verb} ended, or made no progress, before it was to be killed")
        time.sleep(0.1)
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=30)


def snapshot(directory: Path, pattern: str) -> dict[Path, int]:
    """The files that match a pattern, with their times of change."""
    return {path: path.stat().st_mtime_ns for path in directory.glob(pattern) if path.is_file()}


def touched(before: dict[Path, int]) -> int:
    """How many of these files have been written again, or are gone."""
    return sum(not path.exists() or path.stat().st_mtime_ns != time_ns for path, time_ns in before.items())


VERDICTS = "rewrites/*/verdicts/**/*.parquet"
CHECKPOINTS = "train/ray/checkpoint-*"
STAGES = "tune/trials/*/*/stages/*.json"


def resumed_runs(show: int) -> Iterator[Figure]:
    """Figures of one finished and one interrupted run of each verb, begun by the earlier commit."""
    with tempfile.TemporaryDirectory() as scratch:
        place = prepare(Path(scratch))
        finished, interrupted = place.directory / "finished", place.directory / "interrupted"
        for verb in ("rewrite", "train", "tune"):
            yield exit_code(
                show, f"exit code of {verb} by the earlier commit", run(place, place.earlier, verb, "finished")
            )
        kill_in_the_middle(place, "rewrite", "interrupted", lambda: len(snapshot(interrupted, VERDICTS)) >= 3)
        kill_in_the_middle(
            place, "train", "interrupted", lambda: bool(list(interrupted.glob(CHECKPOINTS + "/state.json")))
        )
        kill_in_the_middle(place, "tune", "interrupted", lambda: bool(snapshot(interrupted, STAGES)))
        results = {"rewrite": VERDICTS, "train": "train/export/*", "tune": STAGES}
        for verb, pattern in results.items():
            before = snapshot(finished, pattern)
            yield exit_code(
                show, f"exit code of a finished {verb}, run again", run(place, REPOSITORY, verb, "finished")
            )
            yield Figure(show, f"files of a finished {verb} that are written again", touched(before), "", at_most=0)
            yield Figure(show, f"files of a finished {verb}", len(before), "", at_least=1)
        for verb in results:
            before = snapshot(interrupted, results[verb])
            yield exit_code(
                show, f"exit code of an interrupted {verb}, resumed", run(place, REPOSITORY, verb, "interrupted")
            )
            if verb != "train":
                yield Figure(
                    show, f"files of an interrupted {verb} that are written again", touched(before), "", at_most=0
                )
            yield from completeness(show, verb, interrupted)


def completeness(show: int, verb: str, output: Path) -> Iterator[Figure]:
    """Whether a resumed run has done everything."""
    if verb == "rewrite":
        summary = storage.read_json(str(output / "rewrites" / "summary.json"))
        captions = min(counts["captions"] for counts in summary["prompt_sets"].values())
        yield Figure(show, "captions of the resumed rewriting", captions, "", at_least=IMAGES, at_most=IMAGES)
        yield Figure(show, "shards it found committed", summary["shards_done_before"], "", at_least=1)
    elif verb == "train":
        summary = storage.read_json(str(output / "train" / "summary.json"))
        steps = IMAGES * EPOCHS // BATCH
        yield Figure(show, "steps of the resumed training", summary["steps"], "", at_least=steps, at_most=steps)
    else:
        stages = len(snapshot(output, STAGES))
        yield Figure(show, "evaluations of the resumed sweep", stages, "", at_least=4, at_most=4)
