"""Figures of the training stream: against open_clip's own training, against bare decode loops, and its memory."""

import io
import json
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from laclip_ray.config import DataConfig, Experiment, parse_experiment, to_yaml, with_overrides
from laclip_ray.data.images import ImageSpec
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.models.specs import load_model_spec
from laclip_ray.training.metrics import read_metrics
from tests.figures.figure import Figure
from tests.figures.processes import watch_cpu, watch_memory
from tests.figures.training_images import CROP, Crop, crops, own_crop, resized, usual_crop
from tests.integration.conftest import MODEL as SMALL_MODEL
from tests.integration.conftest import jpeg, write_shard
from tests.integration.procedures import REPOSITORY, child_environment, free_port, real_data

RUNS = 3
"""Interleaved runs of each side of a ratio; the median counts."""
_SHARDS = 4
_TRAINED, _READ = 800, 3_000
"""Samples of a shard, for training and for the stream alone, whose tasks would be over too soon else."""
_BATCH = 64
MODEL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 224, "layers": 4, "width": 192, "head_width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
}


@dataclass(frozen=True)
class Timeline:
    """What the first worker noted, in seconds."""

    began_s: float
    asked_s: float
    """When it asked for its first batch; nothing is read before that."""
    steps_s: Sequence[float]

    @property
    def seconds(self) -> float:
        """From the first reading to the last step."""
        return self.steps_s[-1] - self.asked_s


def throughput(directory: Path) -> Iterator[Figure]:
    """Show 4: training against open_clip's, the stream alone against bare loops, and a model that must not wait.

    A rate is that of the images which a longer run has more, over the time that it takes more: what was read ahead, and
    what a start takes, is the same in both.
    """
    data = real_data()
    if data is None:
        print("LACLIP_TEST_DATA is not set: the figures of throughput (show 4) are left out")
        return
    yield from crops(data)
    _write_pictures(data, directory / "data", _TRAINED)
    experiment = _experiment(directory, MODEL, _BATCH, workers=2, epochs=1)

    def ours(epochs: int) -> float:
        return train(with_overrides(experiment, {"train.epochs": epochs}), directory).seconds

    def theirs(epochs: int) -> float:
        return _train_with_open_clip(with_overrides(experiment, {"train.epochs": epochs}), directory)

    ratios = [_rate(ours, 1, 3, _TRAINED) / _rate(theirs, 1, 3, _TRAINED) for _ in range(RUNS)]
    yield Figure(4, "images a second, against open_clip's training", statistics.median(ratios), "ratio", at_least=1.0)
    yield Figure(4, "the lowest of these", min(ratios), "ratio")

    _write_pictures(data, directory / "read" / "data", _READ)
    only_read = _experiment(directory / "read", MODEL, _BATCH, workers=1, epochs=1)

    used_s: dict[int, Counter[str]] = {}
    cores = os.cpu_count() or 1

    def alone(epochs: int) -> float:
        # One more task than cores, for the time between two tasks.
        changes = {"ray.local_cpus": 2 + cores, "train.epochs": epochs}
        with watch_cpu(_part_of, "Ray's other processes") as used_s[epochs]:
            return train(with_overrides(only_read, changes), directory, step_s=0).seconds

    streams, loops, usual, parts = [], [], [], []
    for _ in range(RUNS):
        usual.append(_bare_loops(only_read, usual_crop))
        loops.append(_bare_loops(only_read, own_crop))
        streams.append(_rate(alone, 1, 3, _READ))
        taken_s = 2 * _SHARDS * _READ / streams[-1]
        parts.append({part: (used_s[3][part] - used_s[1][part]) / taken_s / cores for part in used_s[3]})
    ratio = statistics.median(stream / loop for stream, loop in zip(streams, loops, strict=True))
    yield Figure(4, "images a second of the stream alone", statistics.median(streams), "1/s")
    yield Figure(4, "images a second of bare decode loops", statistics.median(loops), "1/s")
    yield Figure(4, "the stream alone, against bare decode loops", ratio, "ratio", at_least=0.95)
    against = statistics.median(stream / loop for stream, loop in zip(streams, usual, strict=True))
    yield Figure(4, "the stream alone, against loops that decode and crop by Pillow and torchvision", against, "ratio")
    for part in sorted(parts[0]):
        share = statistics.median(each[part] for each in parts)
        yield Figure(4, f"of all CPU time of the stream alone, {part}", share, "share")
    of_a_task = statistics.median(
        stream / each[_READING] / loop for stream, each, loop in zip(streams, parts, loops, strict=True)
    )
    yield Figure(4, "images a second of CPU time, a reading task's against a bare loop's", of_a_task, "ratio")

    slow = with_overrides(only_read, {"train.epochs": 6})
    timeline = train(slow, directory, step_s=2 * _BATCH / statistics.median(streams))
    rows = read_metrics(slow.train_output)
    # Without the first line, which waits for the first batch (below), but with the rest of the start, in which reading
    # processes come up beside training: a run of any length has that once.
    waiting = _waiting(rows[1:])
    yield Figure(
        4,
        "waiting for data after ten steps, model at half the stream's rate, six epochs",
        waiting,
        "share",
        at_most=0.02,
    )
    yield Figure(4, "the same after the first epoch", _waiting([row for row in rows if row["epoch"] > 1]), "share")
    first_s = timeline.steps_s[0] - timeline.began_s
    yield Figure(4, "from a worker's start to its first batch", first_s, "s", at_most=10)


def _waiting(rows: Sequence[dict[str, Any]]) -> float:
    """The share of the time of these lines of metrics."""
    seconds = [1 / row["images_per_s"] for row in rows]  # in proportion: each has as many steps
    waited_s = sum(row["waiting_share"] * each for row, each in zip(rows, seconds, strict=True))
    return float(waited_s / sum(seconds))


def _rate(seconds: Callable[[int], float], fewer: int, more: int, samples: int) -> float:
    """Images a second, from what runs of so many epochs take, with so many samples a shard."""
    return (more - fewer) * _SHARDS * samples / (seconds(more) - seconds(fewer))


def memory(directory: Path) -> Iterator[Figure]:
    """Show 5: 200,000 descriptors against the first tenth of them, and ten times the bytes in a tar."""
    shards, epochs = 400, 500
    for number in range(shards):
        write_shard(directory / "descriptors" / "data" / f"{number:04d}.tar", [_small(number)])
    many = _experiment(directory / "descriptors", SMALL_MODEL, 64, workers=1, epochs=epochs)
    early, peaks = _early_and_all_peaks(many, directory, epochs // 10)
    yield from _growth(early, peaks, f"{shards * epochs:,} descriptors against the first tenth")

    draws = np.random.Generator(np.random.Philox(3))
    pictures = [_noise(draws) for _ in range(20)]
    tars = {}
    for name, count in (("100 MB", 100 * 10**6), ("1 GB", 10**9)):
        place = directory / name.replace(" ", "")
        for number in range(2):
            rows = range(count // len(pictures[0]))
            write_shard(
                place / "data" / f"{number}.tar",
                [(f"t{number}-{row}", {"jpg": pictures[row % 20], "txt": b"noise"}) for row in rows],
            )
        tars[name] = _peaks(_experiment(place, SMALL_MODEL, 256, workers=1, epochs=1), directory)
    yield from _growth(tars["100 MB"], tars["1 GB"], "tars of 1 GB against 100 MB")


def _growth(before: dict[str, int], after: dict[str, int], what: str) -> Iterator[Figure]:
    for kind in sorted(before.keys() & after.keys()):
        yield Figure(5, f"peak memory of {kind}, {what}", after[kind] / 2**20, "MiB")
        yield Figure(5, f"growth of it, {what}, {kind}", after[kind] / before[kind] - 1, "share", at_most=0.15)


def _peaks(experiment: Experiment, directory: Path) -> dict[str, int]:
    """The most memory of each kind of process in the whole run."""
    with watch_memory(_kind_of) as peaks:
        train(experiment, directory, step_s=0)
    return peaks


def _early_and_all_peaks(
    experiment: Experiment, directory: Path, early_epochs: int
) -> tuple[dict[str, int], dict[str, int]]:
    """The most memory of each kind of process in the first epochs, and in the whole run."""
    early: dict[str, int] = {}
    with watch_memory(_kind_of) as peaks, ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, experiment, directory, step_s=0)
        while not training.done():
            time.sleep(1)
            rows = read_metrics(experiment.train_output)
            if not early and rows and rows[-1]["epoch"] >= early_epochs:
                early = dict(peaks)
        training.result()
    if not early:
        raise RuntimeError(f"the run ended before a line of its metrics was seen after epoch {early_epochs}")
    return early, peaks


_READING = "reading tasks"


def _part_of(title: str) -> str | None:
    """What a process does for the stream; of one between two tasks, its title says nothing."""
    found = re.match(r"ray::(MapBatches|RayTrainWorker|SplitCoordinator)", title)
    if found is None:
        return None
    return _READING if found.group(1) == "MapBatches" else "the training worker and the stream's coordinator"


def _kind_of(title: str) -> str | None:
    if "tests.figures.training_run" in title:
        return "the driver"
    found = re.match(r"ray::(RayTrainWorker|SplitCoordinator|TrainController|MapBatches)", title)
    return {
        "RayTrainWorker": "a training worker",
        "SplitCoordinator": "the stream's coordinator",
        "TrainController": "the training's controller",
        "MapBatches": "a reading task",
        None: None,
    }[found and found.group(1)]


def _small(number: int) -> tuple[str, dict[str, bytes]]:
    return f"s{number}", {"jpg": jpeg(number), "txt": b"a picture"}


def _noise(draws: np.random.Generator) -> bytes:
    """A picture of about 100 KB."""
    buffer = io.BytesIO()
    Image.fromarray(draws.integers(0, 255, (256, 256, 3), np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def _write_pictures(data: Path, directory: Path, count: int) -> None:
    """Real pictures with real captions, not of one another, as tars that open_clip reads too.

    The shorter side has 256 pixels, as img2dataset writes CC3M and CC12M in its own examples.
    """
    captions = [line.split("\t")[0] for line in (data / "cc3m-validation.tsv").read_text().splitlines()]
    images = DataConfig(path=str(data / "clothing-cc0" / "train"), caption_column="cls")
    pictures = [
        resized(sample.image, 256, min)
        for shard in list_shards(images)
        for sample in read_samples(shard, images, with_images=True)
        if sample.image is not None
    ]
    for number in range(_SHARDS):
        samples = [
            (f"p{row:05d}", {"jpg": pictures[row % len(pictures)], "txt": captions[row].encode()})
            for row in range(number * count, (number + 1) * count)
        ]
        write_shard(directory / f"{number:05d}.tar", samples)


def _experiment(place: Path, model: dict[str, Any], batch_size: int, workers: int, epochs: int) -> Experiment:
    path = place / "figures_model.json"
    path.write_text(json.dumps(model))
    return parse_experiment(
        {
            "name": "figures",
            "output": str(place / "out"),
            "data": {"path": str(place / "data")},
            "text": {"p": 0.0},
            "stream": {"crop_scale": list(CROP)},
            "model": {"name": str(path)},
            "train": {
                "epochs": epochs,
                "batch_size": batch_size,
                "workers": workers,
                "warmup_epochs": 0.2,
                "precision": "fp32",
                "checkpoint": {"every_steps": 1_000_000},
            },
            "ray": {"local_cpus": workers + (os.cpu_count() or 1)},
        }
    )


def train(experiment: Experiment, directory: Path, step_s: float | None = None) -> Timeline:
    """Train in a process of its own and in a place of its own; see `training_run`."""
    place = directory / "runs"
    place.mkdir(exist_ok=True)
    config, notes = place / "config.yaml", place / "notes.json"
    subprocess.run(["rm", "-rf", experiment.train_output], check=True)
    config.write_text(to_yaml(experiment))
    arguments = [str(config), str(notes), *([] if step_s is None else [str(step_s)])]
    _run([sys.executable, "-m", "tests.figures.training_run", *arguments])
    noted = json.loads(notes.read_text())
    return Timeline(noted["began_s"], noted["asked_s"], noted["steps_s"])


def _train_with_open_clip(experiment: Experiment, directory: Path) -> float:
    """Seconds of open_clip's own training, on the same model, files, crops, batch and number of processes."""
    train, model, notes = experiment.train, experiment.model.name, directory / "peer.json"
    processes = train.worker_range.max
    arguments = {
        "train-data": f"{experiment.data.path}/{{00000..{_SHARDS - 1:05d}}}.tar",
        "dataset-type": "webdataset",
        "train-num-samples": train.epochs * _SHARDS * _TRAINED,
        "workers": 1,
        "batch-size": train.batch_size // processes,
        "epochs": 1,
        "model": Path(model).stem,
        "device": "cpu",
        "precision": "fp32",
        "lr": train.learning_rate,
        "wd": train.weight_decay,
        "beta1": train.beta1,
        "beta2": train.beta2,
        "eps": train.epsilon,
        "warmup": 10,
        "log-every-n-steps": train.log_every_steps,
        "logs": str(directory / "peer"),
        "name": str(time.time_ns()),
        "save-frequency": 0,
    }
    options = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
    options += ["--gather-with-grad", "--aug-cfg", f"scale={CROP}"]
    command = [sys.executable, "-m", "tests.figures.training_peers", model, str(notes), *options]
    world = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    started = []
    for rank in map(str, range(processes)):
        environment = {**child_environment(), **world, "RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        with (directory / f"peer-{rank}.log").open("w") as log:
            started.append(subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=log, stderr=log))
    for number, process in enumerate(started):
        assert process.wait() == 0, (directory / f"peer-{number}.log").read_text()[-3000:]
    first_s, *_, last_s = json.loads(notes.read_text())
    return float(last_s - first_s)


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, env=child_environment(), cwd=REPOSITORY, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def _bare_loops(experiment: Experiment, crop: Crop) -> float:
    """Images a second of loops that read, decode and crop the same files, one process a core at once."""
    cores = os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    spec = load_model_spec(experiment.model.name).image
    barrier = context.Barrier(cores)
    with context.Pool(cores, _prepare, (barrier,)) as pool:
        jobs = [(experiment.data, spec, crop, number, cores) for number in range(cores)]
        return sum(pool.map(_decode_loop, jobs, chunksize=1))


_barrier: Any = None


def _prepare(barrier: Any) -> None:
    global _barrier
    _barrier = barrier
    torch.set_num_threads(1)


def _decode_loop(job: tuple[DataConfig, ImageSpec, Crop, int, int]) -> float:
    """Images a second of one process, over its share of the shards."""
    data, spec, crop, number, cores = job
    shards = list_shards(data)[number::cores]
    _barrier.wait()
    started_s, count = time.monotonic(), 0
    for shard in shards:
        for sample in read_samples(shard, data, with_images=True):
            crop(sample.image or b"", spec, sample.id)
            count += 1
    return count / (time.monotonic() - started_s)
