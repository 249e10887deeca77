"""A training run as a user starts it: check, count rows, describe the stream, train, export.

The same command resumes an interrupted run from its newest checkpoint. A finished run does not change.
"""

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from laclip_ray import cluster, lease, progress, storage
from laclip_ray.config import DataConfig, Experiment, Inputs, StreamConfig, TrainConfig, inputs_on_nodes
from laclip_ray.data.dataset_index import beside, keep_index
from laclip_ray.data.entries import StreamSpec, TextSupply
from laclip_ray.data.preview import check_first_rows
from laclip_ray.data.records import Shard
from laclip_ray.data.schedule import Schedule
from laclip_ray.data.shard_table import ShardTable
from laclip_ray.data.shards import list_shards
from laclip_ray.data.text_choice import text_policy
from laclip_ray.data.tokens import tokenizer_spec
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.models.specs import ModelSpec, load_model_spec, with_loss
from laclip_ray.rewriting.storing.committed import Committed
from laclip_ray.rewriting.storing.matching import check_joins
from laclip_ray.rewriting.storing.score_checks import check_scores
from laclip_ray.rewriting.storing.sets import RewriteSets, SetSelection, check_weights, committed_sets
from laclip_ray.tracking.choice import check_trackers
from laclip_ray.training.batches import worker_batch_size
from laclip_ray.training.checkpoint import newest_checkpoint, read_state
from laclip_ray.training.doubts import doubts
from laclip_ray.training.loop import LoopInput
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.register import drop_unloadable, repair_register
from laclip_ray.training.rows import ShardRows, count_up_to, find_rows, usable_rows
from laclip_ray.training.run_record import check_record, pinned_rewrites, run_name, write_record
from laclip_ray.training.summary import TrainingResult, finish, finished_result
from laclip_ray.training.tracked import check_trackers_on_nodes
from laclip_ray.training.trainer import fit

logger = logging.getLogger(__name__)


def run_training(
    experiment: Experiment,
    supply: TextSupply | None = None,
    until_epoch: int | None = None,
    rows: Mapping[str, ShardRows] | None = None,
    stop: threading.Event | None = None,
    lease_wait_s: float = 0.0,
) -> TrainingResult:
    """Train to the end of the schedule, from the newest checkpoint if there is one.

    Args:
        experiment: the configuration.
        supply: rewriting that runs beside training and commits to the rewrite sets of this configuration.
        until_epoch: pause after this many epochs, with a checkpoint for the same run to resume from. Then
            `TrainingResult.export` is this checkpoint, and no summary is written.
        rows: the result of `count_rows` for these shards, if the caller has it.
        stop: another thread sets it to end the workers early. Only in the main thread.
        lease_wait_s: how long to wait for another run that writes to `train.output`.

    Raises:
        UserError: bad input, before any worker starts.
        TrainingStoppedError: `stop` was set.
        IncompleteError: training ended early; the same command resumes.
    """
    if stop is not None and threading.current_thread() is not threading.main_thread():
        raise RuntimeError("training can be stopped only in the main thread: Ray Train names its controller only there")
    model, shards = check_training(experiment)
    paths = RunPaths(experiment.train_output)
    rewrites = _open_rewrites(experiment, is_growing=supply is not None)
    if (result := finished_result(paths)) is not None:
        return result
    storage.check_output(paths.output, "train.output", cluster.in_ray_job(), 1, experiment.ray.shared_paths)
    with lease.hold(paths.output, "train.output", "train", lease_wait_s, interrupts=False) as held:
        check_record(experiment, model, shards)  # another run may have begun, or ended, since the first look
        if (result := finished_result(paths)) is not None:
            return result
        reservation = cluster.Reservation("train", training_groups(experiment.train, experiment.stream))
        cluster.connect(experiment.ray, reservation, {"train.output": paths.output}, training_inputs(experiment))
        check_trackers_on_nodes(experiment.track, experiment.output, worker_group(experiment.train))
        repair_register(paths)
        keep_index(experiment.data, experiment.output, shards)
        inputs, spec, rows = _begin(experiment, model, shards, rewrites, rows, supply, until_epoch)
        _train(inputs, spec, lambda: held.is_lost or (stop is not None and stop.is_set()))
        if supply is not None:  # rewriting beside training has committed more since the start
            inputs = replace(inputs, lineage=_lineage(inputs.lineage["experiment"], rewrites))
        return finish(inputs, spec.schedule, usable_rows(rows))


def training_inputs(experiment: Experiment) -> Inputs:
    """The paths and URLs that training's tasks read, and those of evaluation during training."""
    sections = {"data": True, "model": True, "text": experiment.text.reads_rewrites}
    sections["evaluate"] = experiment.evaluate.during is not None
    return inputs_on_nodes(experiment, *(name for name, is_read in sections.items() if is_read))


def _begin(
    experiment: Experiment,
    model: ModelSpec,
    shards: Sequence[Shard],
    rewrites: RewriteSets | None,
    rows: Mapping[str, ShardRows] | None,
    supply: TextSupply | None,
    until_epoch: int | None,
) -> tuple[LoopInput, StreamSpec, dict[str, ShardRows]]:
    """Describe a run and write its record.

    Returns:
        The input of the workers and of the stream, and the rows of all shards.

    Raises:
        UserError: shards have other rows than when the run began, no rewrite would be found, or the run is shorter
            than a step.
    """
    paths, train = RunPaths(experiment.train_output), experiment.train
    with progress.phase("counting the samples"):
        counted = find_rows(paths.rows, experiment.data, shards, run_name(paths), rows)
    length = RunLength(sum(usable_rows(counted).values()), train.epochs, train.batch_size)
    length.check()
    for doubt in doubts(length.samples_per_epoch, train, experiment.evaluate):
        logger.warning("%s", doubt)
    described = None
    if rewrites is not None and supply is None:
        described = rewrites.describe()
        check_joins(rewrites, described, shards, experiment.data)
        check_scores(experiment.text.scores, rewrites, described, [shard.name for shard in shards])
    spec = describe_stream(experiment, model, shards, rewrites)
    inputs = LoopInput(
        experiment=experiment,
        model=model,
        text=spec.text,
        shard_count=len(shards),
        total_steps=length.total_steps,
        samples_per_epoch=length.samples_per_epoch,
        lineage=_lineage(experiment.as_written(), rewrites, described),
        supply=supply,
        last_step=length.last_step(until_epoch),
        export_steps=length.export_steps(train.export_every_epochs),
        is_watched=progress.is_watched(),
    )
    write_record(paths, inputs.lineage["experiment"], model, counted, rewrites)
    return inputs, spec, counted


def _train(inputs: LoopInput, spec: StreamSpec, should_stop: Callable[[], bool]) -> None:
    """Train to the run's end. From a checkpoint that does not load, fall back to the one before."""
    paths = inputs.paths
    for url in (paths.non_finite, paths.unloadable):
        storage.remove(url)  # left by an earlier attempt that stopped
    if inputs.last_step is not None and _steps_done(paths) >= inputs.last_step:
        return
    while True:
        try:
            fit(inputs, spec, should_stop)
            return
        except IncompleteError:
            if not drop_unloadable(paths):
                raise


def check_training(experiment: Experiment) -> tuple[ModelSpec, ShardTable]:
    """Check the input of a run, and find its model and shards. Neither starts nor writes anything.

    Raises:
        UserError: bad input.
    """
    check_trackers(experiment.track, experiment.output)
    model = with_loss(load_model_spec(experiment.model.name), experiment.train.loss)
    shards = list_shards(experiment.data, index=beside(experiment.output))
    if experiment.data.image_column is None and shards[0].format != "webdataset":
        raise UserError("data.image_column: not set, so these are captions without images; training needs both")
    check_record(experiment, model, shards)
    if not storage.exists(RunPaths(experiment.train_output).rows):  # a new run
        check_first_rows(experiment.data, shards, needs_images=True)
        _check_batch(experiment.train, experiment.data, shards)
    if experiment.text.reads_rewrites:
        check_weights(SetSelection.of(experiment))
    return model, shards


def _check_batch(train: TrainConfig, data: DataConfig, shards: Sequence[Shard]) -> None:
    """Refuse a batch larger than all samples, before anything is rewritten for it. Reads about a batch of rows."""
    enough = math.ceil(train.batch_size / train.epochs)
    RunLength(count_up_to(enough, data, shards), train.epochs, train.batch_size).check()


def worker_group(train: TrainConfig) -> cluster.ResourceGroup:
    """The workers that training reserves."""
    workers = train.worker_range
    return cluster.ResourceGroup(
        "workers",
        workers.max,
        train.cpus_per_worker,
        train.gpus_per_worker,
        min_processes=workers.min,
        accelerator_type=train.accelerator_type,
        label_selector=train.label_selector,
    )


def training_groups(train: TrainConfig, stream: StreamConfig) -> tuple[cluster.ResourceGroup, ...]:
    """The workers, and reading tasks with labels: these reserve nothing, but without room for one training hangs."""
    readers = cluster.ResourceGroup("reading tasks", 0, 1.0, min_processes=1, label_selector=stream.label_selector)
    return (worker_group(train), readers) if stream.label_selector else (worker_group(train),)


@dataclass(frozen=True)
class RunLength:
    """The length of a run, in samples and steps, if no image is skipped."""

    samples_per_epoch: int
    epochs: int
    batch_size: int

    @property
    def total_steps(self) -> int:
        """Steps of the whole run; an incomplete last batch is dropped."""
        return self.samples_per_epoch * self.epochs // self.batch_size

    def check(self) -> None:
        """Raise UserError if the run is shorter than one step."""
        if not self.total_steps:
            raise UserError(
                f"train.batch_size: {self.batch_size} is more than the {self.samples_per_epoch * self.epochs} samples "
                f"of {self.epochs} epochs"
            )

    def step_after(self, epoch: int) -> int:
        """The first step after which `epoch` epochs are trained."""
        return math.ceil(self.total_steps * epoch / self.epochs)

    def last_step(self, until_epoch: int | None) -> int | None:
        """The step after which a run pauses; None: it trains to the end of the schedule."""
        return None if until_epoch is None or until_epoch >= self.epochs else self.step_after(until_epoch)

    def export_steps(self, every_epochs: int | None) -> dict[int, int]:
        """The steps after which the model is exported, each with its epoch. The last epoch has the run's own export."""
        if every_epochs is None:
            return {}
        return {self.step_after(epoch): epoch for epoch in range(every_epochs, self.epochs, every_epochs)}


def _open_rewrites(experiment: Experiment, is_growing: bool) -> RewriteSets | None:
    """The rewrite sets that the run reads; None if it shows only captions.

    A resumed run reads the revisions that it began with, unless rewriting still adds to the sets (`is_growing`).
    """
    if not experiment.text.reads_rewrites:
        return None
    rewrites = committed_sets(SetSelection.of(experiment), is_growing)
    return rewrites if is_growing else pinned_rewrites(RunPaths(experiment.train_output), rewrites)


def describe_stream(
    experiment: Experiment, model: ModelSpec, shards: Sequence[Shard], rewrites: RewriteSets | None
) -> StreamSpec:
    """Everything that the stream's tasks need."""
    train = experiment.train
    if rewrites is not None:
        rewrites = rewrites.counted()
    return StreamSpec(
        data=experiment.data,
        stream=experiment.stream,
        shards=shards,
        schedule=Schedule(len(shards), train.epochs, experiment.seed),
        rewrites=rewrites,
        text=text_policy(experiment.text, train.epochs, rewrites.most_rewrites() if rewrites is not None else 0),
        seed=experiment.seed,
        image=model.image,
        tokenizer=tokenizer_spec(model.name),
        dealt_rows=_dealt_rows(train, experiment.stream),
    )


def _dealt_rows(train: TrainConfig, stream: StreamConfig) -> int:
    """The most rows, up to a block, that divide a worker's batch at every world size."""
    sizes = range(train.worker_range.min, train.worker_range.max + 1)
    common = math.gcd(*(worker_batch_size(train, size, "exact") for size in sizes))
    return max(rows for rows in range(1, stream.rows_per_block + 1) if common % rows == 0)


def _lineage(
    experiment: Mapping[str, Any],
    rewrites: RewriteSets | None,
    described: Sequence[Mapping[str, Committed]] | None = None,
) -> dict[str, Any]:
    """The configuration as JSON, and the committed shards of each rewrite set."""
    return {"experiment": experiment, "rewrite_sets": rewrites.lineage(described) if rewrites is not None else []}


def _steps_done(paths: RunPaths) -> int:
    """Steps of the newest checkpoint."""
    newest = newest_checkpoint(paths.output)
    return int(read_state(newest)["step"]) if newest is not None else 0
