"""Rewriting and training in one job, with a scripted engine."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray._private import state
from ray.data._internal.cluster_autoscaler.default_autoscaling_coordinator import DefaultAutoscalingCoordinator

from laclip_ray import storage
from laclip_ray.config import Experiment, RewriteConfig, with_overrides
from laclip_ray.data.schedule import Position, Schedule
from laclip_ray.errors import IncompleteError
from laclip_ray.onejob.run import RUN_FILE, run_one_job
from laclip_ray.rewriting.engines.engine import Answer, Engine, EngineDiedError, EngineStartError
from laclip_ray.training.checkpoint import newest_checkpoint
from laclip_ray.training.metrics import read_metrics
from tests.integration.chaos import contents
from tests.integration.conftest import good_samples, jpeg, write_shard
from tests.integration.procedures import wait_for
from tests.integration.scripted_engine import POISON, ScriptedEngine, caption_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

MakeExperiment = Callable[..., Experiment]
SHARDS, SAMPLES, EPOCHS = 5, 32, 2
KILLER_SAMPLES = 8


@pytest.fixture
def make_job(tmp_path: Path, make_experiment: MakeExperiment) -> Callable[[str], Experiment]:
    for number in range(SHARDS):
        write_shard(tmp_path / "data" / f"{number}.tar", good_samples(number * SAMPLES, SAMPLES))
    base = make_experiment(
        text={"p": 1.0},
        rewrite={
            "prompt_sets": ["crowd"],
            "gate": {"min_shared_words": 0},
            "engine": {"shards_in_flight": 1, "cpus_per_actor": 0.5},  # one shard after another
        },
        train={
            "epochs": EPOCHS,
            "workers": 1,
            "cpus_per_worker": 0.5,
            "log_every_steps": 3,
            "checkpoint": {"every_steps": 3},
        },
        stream={"shuffle_buffer_rows": 0},
    )

    def make(delivery: str) -> Experiment:
        return with_overrides(base, {"output": str(tmp_path / delivery), "rewrite.delivery": delivery})

    return make


def shown(summary: dict[str, Any]) -> dict[int, float]:
    """The share of samples that showed a rewrite, by epoch, in a training summary."""
    return {int(epoch): shares["p_effective"] for epoch, shares in summary["by_epoch"].items()}


def write_killer_shard(experiment: Experiment) -> None:
    """Add a shard with a caption that kills its engine."""
    samples = good_samples(SHARDS * SAMPLES, KILLER_SAMPLES - 1)
    samples.append(("killer", {"jpg": jpeg(0), "txt": f"a {POISON} pill".encode()}))
    write_shard(Path(str(experiment.data.path), f"{SHARDS}.tar"), samples)


def last_read_captions(experiment: Experiment, shards: int) -> frozenset[str]:
    """The captions of the ordinary shard that the first epoch reads last."""
    schedule = Schedule(shards, EPOCHS, experiment.seed)
    number = next(entry.shard for index in range(shards - 1, -1, -1) if (entry := schedule.entry(index)).shard < SHARDS)
    return frozenset(f"picture number {row}" for row in range(number * SAMPLES, (number + 1) * SAMPLES))


@dataclass
class HeldEngine(ScriptedEngine):
    """Answers some captions only after training has a checkpoint."""

    held: frozenset[str] = frozenset()
    train_output: str = ""

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        async with asyncio.timeout(120):
            while caption_of(prompt) in self.held and newest_checkpoint(self.train_output) is None:
                await asyncio.sleep(0.1)
        return await super().generate(prompt, count, request_id)


@dataclass(frozen=True)
class Finished:
    """What a job with a `HeldEngine` left."""

    content: dict[str, Any]
    """Of `run.json`."""
    state: dict[str, Any]
    """Of the last checkpoint."""

    @property
    def events(self) -> dict[str, int]:
        """The shards that were rewritten at each event."""
        return {event["event"]: event["rewritten_shards"] for event in self.content["timeline"]}

    @property
    def first_step(self) -> int:
        """The shards that were rewritten at the first step of training."""
        return self.events["the first step of a start of training"]

    @property
    def committed(self) -> int:
        """The committed shards in the checkpoint's lineage."""
        (rewrite_set,) = self.state["lineage"]["rewrite_sets"]
        return int(rewrite_set["committed_shards"])


def finish(experiment: Experiment, shards: int, samples: int, incomplete: str | None = None) -> Finished:
    """Run a job to its end, check what holds with any delivery, and run it again, which finds no work left.

    Args:
        experiment: of the job.
        shards: in the data.
        samples: in an epoch.
        incomplete: words of the error that each run ends with; None: no error.
    """
    held = last_read_captions(experiment, shards)
    engine = partial(HeldEngine, held=held, train_output=experiment.train_output)

    def run() -> dict[str, Any]:
        with pytest.raises(IncompleteError, match=incomplete) if incomplete else nullcontext():
            run_one_job(experiment, engine)
        return dict(storage.read_json(storage.join(experiment.output, RUN_FILE)))

    content = run()
    assert (content["rewriting"]["commits"], content["rewriting"]["engines"]) == (shards, 1)
    checkpoint = newest_checkpoint(experiment.train_output)
    assert checkpoint is not None
    state = storage.read_json(storage.join(checkpoint, "state.json"))
    assert Position.from_json(state["position"]).done_below == shards * EPOCHS
    assert state["samples"] == content["training"]["samples"] == samples * EPOCHS
    assert read_metrics(experiment.train_output)[-1]["shards_to_rewrite"] == shards
    for rows in contents(experiment).values():
        assert len(rows) == samples
        for (sample_id, _, _), (text, reason) in rows.items():
            expected = None if sample_id == "killer" else f"a picture of picture number {int(sample_id[1:])}, number 0"
            assert (text, reason) == (expected, None if expected else "engine_died")
    again = run()
    assert (again["timeline"], again["training"]) == (content["timeline"], content["training"])
    return Finished(content, state)


# Delivery `ahead` is one of the tests of an object store.


@pytest.fixture
def another_user(local_ray: Any) -> Iterator[None]:
    """Another program for which Ray Data keeps half of the CPUs. The streams of a job get one CPU each."""
    program = DefaultAutoscalingCoordinator("another-user")
    program.request_resources([{"CPU": 3.0}], expire_after_s=900)
    yield
    program.cancel_request()


@pytest.mark.usefixtures("another_user")
def test_training_beside_rewriting_waits_for_texts_and_reads_each_sample_in_spite_of_a_killing_caption(
    make_job: Callable[[str], Experiment],
) -> None:
    experiment = make_job("inline")
    write_killer_shard(experiment)
    samples = SHARDS * SAMPLES + KILLER_SAMPLES
    job = finish(experiment, SHARDS + 1, samples, incomplete="killer")
    assert job.content["rewriting"]["prompt_sets"]["crowd"]["unfilled"] == {"engine_died": 1}
    assert job.committed == SHARDS + 1
    assert job.first_step < SHARDS + 1
    assert shown(job.content["training"]) == pytest.approx(dict.fromkeys(range(EPOCHS), 1 - 1 / samples))


def test_training_beside_rewriting_that_never_waits_shows_captions_for_late_shards_and_counts_them(
    make_job: Callable[[str], Experiment],
) -> None:
    samples = SHARDS * SAMPLES
    job = finish(make_job("follow"), SHARDS, samples)
    assert job.first_step <= job.committed <= SHARDS  # training may end first
    shares = shown(job.content["training"])
    assert shares[0] < 1
    assert shares[EPOCHS - 1] >= shares[0]
    fallbacks = job.content["training"]["by_epoch"]["0"]["fallbacks"]
    assert fallbacks["not_rewritten"] >= SAMPLES
    assert sum(fallbacks.values()) == round((1 - shares[0]) * samples)


def no_engine(rewrite: RewriteConfig, seed: int) -> Engine:
    """An engine that cannot start."""
    raise EngineStartError("no memory on the device")


@dataclass
class LostEngine(ScriptedEngine):
    """One of two engines. The first dies of its first caption and does not restart; the other is slow until then."""

    place: str = ""
    is_lost: bool = False

    def __post_init__(self) -> None:
        import ray

        if ray.get_runtime_context().was_current_actor_reconstructed:
            starts = len(list(Path(self.place).glob("start-*")))
            Path(self.place, f"start-{starts}").touch()
            raise EngineStartError("its GPU is gone")
        try:
            Path(self.place, "lost").touch(exist_ok=False)
        except FileExistsError:
            return
        self.is_lost = True

    async def generate(self, prompt: str, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""
        if self.is_lost:
            raise EngineDiedError("its process is gone")
        if not Path(self.place, "start-1").exists():
            await asyncio.sleep(1.0)
        return await super().generate(prompt, count, request_id)


def test_other_engines_take_the_shards_of_one_that_does_not_restart_and_training_continues(
    make_job: Callable[[str], Experiment], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = range(SHARDS, 3 * SHARDS)
    for number in small:
        write_shard(tmp_path / "data" / f"{number}.tar", good_samples(number * SAMPLES, 16))
    engine = {"shards_in_flight": 1, "cpus_per_actor": 0.1, "actors": {"min": 2, "max": 2}, "restart_timeout_s": 1.0}
    experiment = with_overrides(
        make_job("inline"), {"train.epochs": 1, "train.checkpoint.every_steps": 100, "rewrite.engine": engine}
    )
    result = run_one_job(experiment, partial(LostEngine, place=str(tmp_path)))
    assert "engine did not restart (its GPU is gone); shard returned to the other engines" in caplog.text
    assert result.rewriting.commits == SHARDS + len(small)
    assert result.training.summary["samples"] == SHARDS * SAMPLES + len(small) * 16
    assert shown(result.training.summary) == {0: 1.0}


def alive_actors() -> set[str]:
    """The class names of all actors alive."""
    return {actor["ActorClassName"] for actor in state.actors().values() if actor["State"] == "ALIVE"}


@pytest.fixture
def sigint_is_ignored() -> Iterator[None]:
    """Ignore SIGINT, as `nohup` does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("sigint_is_ignored")
def test_training_that_waits_for_failed_rewriting_is_stopped_and_says_why(
    make_job: Callable[[str], Experiment],
) -> None:
    with pytest.raises(IncompleteError, match=r"(?s)with it training.*no memory on the device"):
        run_one_job(make_job("inline"), no_engine)
    wait_for(lambda: not {"RayTrainWorker", "TrainController"} & alive_actors(), 30, "the end of training's actors")
