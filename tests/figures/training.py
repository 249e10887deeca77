"""Figures of training: parity with a plain loop, the cost of the text choice, kills."""

import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from laclip_ray.config import DataConfig, Experiment, GateConfig, TextConfig, parse_experiment, to_yaml, with_overrides
from laclip_ray.data.images import ImageSpec, decode_and_crop
from laclip_ray.data.records import Sample, hash_caption
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.text_choice import ShardRewrites, text_policy
from laclip_ray.data.tokens import load_clip_tokenizer, tokenizer_spec
from laclip_ray.rewriting.recipe import gate_fingerprint
from laclip_ray.rewriting.storing.sets import RewriteSets
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.run import run_training
from tests.figures import training_nodes
from tests.figures.figure import Figure, exit_code, outcomes_of_tests
from tests.figures.training_images import cpu_s, resized
from tests.figures.training_step import step_alone
from tests.figures.training_stream import memory, throughput
from tests.integration.conftest import MODEL, good_samples, write_shard
from tests.integration.procedures import REPOSITORY, child_environment, real_data
from tests.integration.training_chaos import NOTES, missing_or_repeated, run_chaos, starts_of
from tests.unit.rewriting.shards import Draw, commit
from tests.unit.training.test_loss import CASES
from tests.unit.training.worlds import (
    Case,
    differences,
    losses_of_both_loops,
    steps_in_world,
    take_step,
    write_model,
)


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """Those of the numbered shows, or all, in order."""
    measure = {1: parity, 2: text_cost, 3: kills, 4: throughput, 5: memory, 6: released_checkpoints, 7: step_alone}
    for number, show in measure.items():
        if not shows or number in shows:
            with tempfile.TemporaryDirectory() as name:
                yield from show(Path(name))


def parity(directory: Path) -> Iterator[Figure]:
    """Show 1: 50 steps against a plain loop; every loss in 1, 2 and 4 processes, whole and in micro-batches."""
    model_path = write_model(directory)
    largest = max(abs(ours - theirs) for ours, theirs in losses_of_both_loops(model_path, steps=50))
    yield Figure(1, "largest difference of loss in 50 steps, plain loop", largest, "", at_most=1e-5)
    cases = [*CASES, Case(micro_batch_size=2), Case(mode="multi", micro_batch_size=1)]
    compiled = [Case(compiled=True), Case(micro_batch_size=2, compiled=True)]
    for some, world_sizes, name in ((cases, (2, 4), ""), (compiled, (2,), ", compiled")):
        ones = [take_step(model_path, replace(case, compiled=False), slice(None)) for case in some]
        for world_size in world_sizes:
            ranks = steps_in_world(world_size, some, directory)
            found = [differences(one, [steps[number] for steps in ranks]) for number, one in enumerate(ones)]
            for part in found[0]:
                value = max(each[part] for each in found)
                yield Figure(1, f"largest difference of {part}, {world_size} processes{name}", value, "", at_most=1e-5)
    yield from outcomes_of_tests(1, "training/test_loss.py", "training/test_step.py")


_TEXT_ROUNDS, _TEXT_ROWS = 10, 512


def text_cost(directory: Path) -> Iterator[Figure]:
    """Show 2: reading, choosing and tokenising texts, against decoding and cropping pictures at 224 pixels.

    Rewrites are read from storage by shards of 512 samples; the larger a shard, the less that is of it.
    """
    yield from outcomes_of_tests(2, "data/test_text_choice.py")
    data = real_data()
    if data is None:
        print("LACLIP_TEST_DATA is not set: the cost of the text choice (show 2) is left out")
        return
    lines = (data / "cc3m-validation.tsv").read_text().splitlines()
    captions, read_before = (
        [line.split("\t")[0] for line in some]
        for some in (lines[: _TEXT_ROUNDS * _TEXT_ROWS], lines[_TEXT_ROUNDS * _TEXT_ROWS :])
    )
    images = DataConfig(path=str(data / "clothing-cc0" / "train"), caption_column="cls")
    samples: list[Sample] = []
    for shard in list_shards(images):
        samples += [sample for sample in read_samples(shard, images, with_images=True) if sample.image is not None]
        if len(samples) >= _TEXT_ROWS:
            break
    samples = samples[:_TEXT_ROWS]
    spec = ImageSpec(224, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    plan = text_policy(TextConfig(), 1, 4)
    rounds = [list(zip(samples, captions[start:], strict=False)) for start in range(0, len(captions), _TEXT_ROWS)]
    written = RewriteSet(str(directory / "cleaned"), gate_fingerprint(GateConfig(), "ViT-B-32"))
    for number, shown in enumerate(rounds):
        pairs = [(sample.id, caption) for sample, caption in shown]
        texts_of = [Draw(*pair, f"{pair[1]}, version {slot}", slot=slot) for pair in pairs for slot in range(4)]
        commit(written, str(number), texts_of)
    rewrites = RewriteSets((written.pinned(),))
    tokenizer = load_clip_tokenizer(tokenizer_spec("ViT-B-32"))
    tokenizer(read_before)  # so that it knows as many words as in a task that has read one shard of usual size

    def texts(number: int) -> None:
        accepted: ShardRewrites = rewrites.rewrites(str(number)) or ShardRewrites()
        chosen = [
            plan.choose(caption, accepted.get((sample.id, hash_caption(caption))), 0, number, sample.id).text
            for sample, caption in rounds[number]
        ]
        tokenizer(chosen)

    def crops(pictures: Sequence[bytes], number: int) -> None:
        for sample, picture in zip(samples, pictures, strict=True):
            decode_and_crop(picture, spec, (0.5, 1.0), 0, number, sample.id)

    small = [sample.image or b"" for sample in samples]
    usual = [resized(picture, 256, min) for picture in small]  # as img2dataset writes CC3M and CC12M in its examples
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as Ray does for a task; more of them wait for one another in CPU time
    functions = (texts, partial(crops, usual), partial(crops, small))
    # In turn: the texts of all rounds take a fifth of a second, in which the machine may be fast or slow.
    seconds = [[cpu_s([partial(function, number)]) for function in functions] for number in range(_TEXT_ROUNDS)]
    torch.set_num_threads(threads)
    sizes = ((1, "256 pixels, shorter side", 0.1), (2, "128 x 171 pixels (median)", None))
    for column, name, bar in sizes:
        share = statistics.median(each[0] / each[column] for each in seconds)
        yield Figure(2, f"texts against crops at 224 pixels of pictures of {name}", share, "share", at_most=bar)


def kills(directory: Path) -> Iterator[Figure]:
    """Show 3: thirty kills with a changing number of workers; and in exact order the weights of an undisturbed run."""
    shards, samples, epochs = 8, 300, 3
    for number in range(shards):
        write_shard(directory / "data" / f"{number}.tar", good_samples(number * samples, samples))
    everything = Counter(f"s{number:05d}" for number in range(shards * samples))
    victims = (["worker", "worker", "driver"] * 10)[:30]

    changing = _experiment(directory, "changing", epochs, "fast")
    found = run_chaos(changing, victims, [2, 1, 2, 1, 2], 2.0, 5, directory)
    yield from _exactly_once(found.exit_code, found.kills, changing, everything, epochs, "2, 1, 2 workers")

    exact = _experiment(directory, "exact", epochs, "exact")
    found = run_chaos(exact, victims[:10], [2], 2.0, 6, directory)
    yield from _exactly_once(found.exit_code, found.kills, exact, everything, epochs, "exact order")
    undisturbed = with_overrides(exact, {"output": str(directory / "undisturbed")})
    run_training(undisturbed)
    weights, expected = (
        load_file(f"{RunPaths(each.train_output).export}/open_clip_model.safetensors") for each in (exact, undisturbed)
    )
    largest = max(float((weights[name] - expected[name]).abs().max()) for name in expected)
    yield Figure(3, "largest difference of final weights, exact order", largest, "", at_most=1e-5)
    yield from nodes(directory, everything, 5)  # the node comes back while there is something left


def nodes(directory: Path, everything: Counter[str], epochs: int) -> Iterator[Figure]:
    """Show 3 also: a node that is announced to go, goes, and is replaced. No checkpoint is due before it goes."""
    experiment = with_overrides(
        _experiment(directory, "spot", epochs, "fast"),
        {
            "train.workers": {"min": 1, "max": 2},
            "train.accelerator_type": training_nodes.ACCELERATOR,
            "train.log_every_steps": 5,
            "train.checkpoint": {"every_steps": 1_000_000, "every_minutes": 1.0},
            "ray.shared_paths": [str(directory)],
        },
    )
    config = directory / "spot.yaml"
    config.write_text(to_yaml(experiment))
    command = [sys.executable, "-m", "tests.figures.training_nodes", str(config)]
    done = subprocess.run(command, cwd=REPOSITORY, env=child_environment(), check=False)
    starts = starts_of(Path(experiment.output, NOTES))
    yield from _exactly_once(done.returncode, Counter({"node": 1}), experiment, everything, epochs, "a spot node")
    for number, start in enumerate(starts):
        yield Figure(3, f"workers of start {number}, a spot node", start.workers, "workers")
        yield Figure(3, f"first step of start {number}, a spot node", min(start.steps), "")
    kept = min(starts[1].steps)
    yield Figure(
        3, "steps kept by the checkpoint that the notice caused", kept, "steps", at_least=training_nodes.STEPS_BEFORE
    )


def _exactly_once(
    code: int, killed: Counter[str], experiment: Experiment, everything: Counter[str], epochs: int, name: str
) -> Iterator[Figure]:
    for victim, count in killed.items():
        yield Figure(3, f"kills of a {victim}, {name}", count, "kills")
    yield exit_code(3, f"exit code, {name}", code)
    wrong = missing_or_repeated(experiment.output, everything, epochs)
    yield Figure(3, f"samples missing or repeated, {name}", wrong, "samples", at_most=0)


def _experiment(directory: Path, name: str, epochs: int, order: str) -> Experiment:
    model = directory / "model.json"
    model.write_text(json.dumps(MODEL))
    return parse_experiment(
        {
            "name": name,
            "output": str(directory / name),
            "data": {"path": str(directory / "data")},
            "text": {"p": 0.0},
            "model": {"name": str(model)},
            "stream": {"order": order, "rows_per_block": 16},
            "train": {
                "epochs": epochs,
                "batch_size": 16,
                "workers": 2,
                "max_failures": 100,
                "checkpoint": {"every_steps": 4},
            },
        }
    )


def released_checkpoints(directory: Path) -> Iterator[Figure]:
    """Show 6: checkpoints in the authors' layouts are imported and exported with equal features."""
    yield from outcomes_of_tests(
        6, "models/test_importing.py", "models/test_exporting.py", "models/test_paper_models.py"
    )
