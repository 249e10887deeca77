"""A training run as a user starts it: checks, row counts, the Ray Train trainer, and the export.

A rerun of the same command continues from the newest checkpoint; on a finished run it changes nothing.
"""

import logging
import math
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment, TextConfig
from laclip_ray.data.entries import StreamSpec, TextSupply
from laclip_ray.data.records import IMAGE_MISSING, NO_CAPTION, Shard
from laclip_ray.data.schedule import Position, Schedule
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.stream import build_stream, read_ahead_bytes, warm_up
from laclip_ray.data.text_choice import text_policy, text_shares
from laclip_ray.data.tokens import tokenizer_spec
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, STATE_FILE
from laclip_ray.models.specs import ModelSpec, load_model_spec, with_loss
from laclip_ray.rewriting.recipe import deciding_gate
from laclip_ray.rewriting.sets import RewriteSets, SetSelection, check_weights, committed_sets
from laclip_ray.tally import NAMES_KEPT
from laclip_ray.training.checkpoint import RAY_RUN_NAME, newest_checkpoint, read_position, shown_counts_from_json
from laclip_ray.training.loop import LoopInput, non_finite_url, train_worker, worker_batch_size

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """How a training run ended."""

    summary: dict[str, Any]
    """The content of `summary.json`."""
    export: str
    """The directory that open_clip loads (`local-dir:`); of a run that pauses, its newest checkpoint."""


def export_location(experiment: Experiment) -> str:
    """Where training exports the model."""
    return storage.join(experiment.train_output, "export")


def worker_group(experiment: Experiment) -> cluster.ResourceGroup:
    """The workers that training reserves."""
    train = experiment.train
    workers = train.worker_range
    return cluster.ResourceGroup(
        "workers",
        workers.max,
        train.cpus_per_worker,
        train.gpus_per_worker,
        fewest=workers.min,
        accelerator_type=train.accelerator_type,
        label_selector=train.label_selector,
    )


def run_training(
    experiment: Experiment,
    supply: TextSupply | None = None,
    until_epoch: int | None = None,
    rows: Mapping[str, int] | None = None,
    stop: threading.Event | None = None,
) -> TrainingResult:
    """Train to the end of the schedule, from the newest checkpoint if there is one.

    Args:
        experiment: the configuration.
        supply: rewriting that goes on beside training, into the sets of this configuration.
        until_epoch: pause when so many epochs are trained, with a checkpoint from which the same run goes on later.
            `TrainingResult.export` is that checkpoint then, and no summary is written.
        rows: what `count_rows` gave for these shards, if it is known; counted else.
        stop: set by another thread, it ends the workers; only in the main thread.

    Raises:
        UserError: bad input, before any worker starts.
        TrainingStoppedError: `stop` was set.
        IncompleteError: training ended early; the same command continues.
    """
    if stop is not None and threading.current_thread() is not threading.main_thread():
        raise RuntimeError("training can be stopped only in the main thread: Ray Train names its controller only there")
    model, shards = check_training(experiment)
    rewrites = _rewrites(experiment, grow=supply is not None) if experiment.text.reads_rewrites else None
    summary_url = storage.join(experiment.train_output, "summary.json")
    if storage.exists(summary_url) and storage.exists(storage.join(export_location(experiment), CONFIG_FILE)):
        return TrainingResult(storage.read_json(summary_url), export_location(experiment))
    plan = cluster.Reservation("train", (worker_group(experiment),))
    cluster.connect(experiment, plan, {"train.output": experiment.train_output})
    rows = _known_rows(experiment) or rows or count_rows(experiment, shards)
    samples_per_epoch = sum(rows.values())
    total_steps = samples_per_epoch * experiment.train.epochs // experiment.train.batch_size
    if not total_steps:
        raise UserError(
            f"train.batch_size: {experiment.train.batch_size} is more than the "
            f"{samples_per_epoch * experiment.train.epochs} samples of {experiment.train.epochs} epochs"
        )
    storage.write_json(storage.join(experiment.train_output, "experiment.json"), experiment.model_dump(mode="json"))
    storage.write_json(_rows_url(experiment), rows)
    if rewrites is not None:
        storage.write_json(_revisions_url(experiment), rewrites.revisions())
    most = rewrites.most_rewrites() if rewrites is not None else 0
    text = text_policy(experiment.text, experiment.train.epochs, most)
    spec = StreamSpec(
        data=experiment.data,
        stream=experiment.stream,
        shards=tuple(shards),
        schedule=Schedule(len(shards), experiment.train.epochs, experiment.seed),
        rewrites=rewrites,
        text=text,
        seed=experiment.seed,
        image=model.image,
        tokenizer=tokenizer_spec(model.name),
        dealt_rows=_dealt_rows(experiment),
    )
    lineage = {
        "experiment": experiment.model_dump(mode="json"),
        "rewrite_sets": rewrites.lineage() if rewrites is not None else [],
    }

    def step_after(epoch: int) -> int:
        return math.ceil(total_steps * epoch / experiment.train.epochs)

    last_step = step_after(until_epoch) if until_epoch is not None and until_epoch < experiment.train.epochs else None
    every = experiment.train.export_every_epochs
    exports = {step_after(epoch): epoch for epoch in range(every, experiment.train.epochs, every)} if every else {}
    given = LoopInput(
        *(experiment, model, text, len(shards), total_steps, samples_per_epoch, lineage, supply),
        last_step=last_step,
        export_steps=exports,
    )
    storage.remove(non_finite_url(experiment.train_output))  # it says why an earlier attempt stopped
    if last_step is None or _steps_done(experiment) < last_step:
        _fit(given, spec, stop)
    if supply is not None and rewrites is not None:
        lineage["rewrite_sets"] = rewrites.lineage()  # what was committed meanwhile was read
    return _finish(given, spec.schedule, rows)


def check_training(experiment: Experiment) -> tuple[ModelSpec, list[Shard]]:
    """What is trained on what; starts and writes nothing.

    Raises:
        UserError: bad input.
    """
    model = with_loss(load_model_spec(experiment.model.name), experiment.train.loss)
    shards = list_shards(experiment.data)
    if experiment.data.image_column is None and shards[0].format != "webdataset":
        raise UserError("data.image_column: not set, so these are captions without images; training needs both")
    _check_place(experiment)
    known = _known_rows(experiment)
    if known is not None and known.keys() != {shard.name for shard in shards}:
        raise UserError(
            f"data.path: the shards are not those that the training run in {experiment.train_output} began with; "
            "its position would mean other samples. Choose another train.output"
        )
    if experiment.text.reads_rewrites:
        check_weights(SetSelection.of(experiment))
    return model, shards


def _revisions_url(experiment: Experiment) -> str:
    return storage.join(experiment.train_output, "rewrite_revisions.json")


def _rewrites(experiment: Experiment, grow: bool) -> RewriteSets:
    """The rewrite sets that are read; at the revisions that the run began with, unless they are being made."""
    rewrites = committed_sets(SetSelection.of(experiment), grow)
    if not grow and storage.exists(_revisions_url(experiment)):
        return rewrites.pinned_at(storage.read_json(_revisions_url(experiment)))
    return rewrites


def _dealt_rows(experiment: Experiment) -> int:
    """The most rows, up to a block, that a worker's batch holds a whole number of times at every world size."""
    train = experiment.train
    sizes = range(train.worker_range.min, train.worker_range.max + 1)
    common = math.gcd(*(worker_batch_size(train, size, "exact") for size in sizes))
    return max(rows for rows in range(1, experiment.stream.rows_per_block + 1) if common % rows == 0)


MAY_CHANGE = frozenset(
    f"train.{key}"
    for key in (
        "output",
        "workers",
        "gpus_per_worker",
        "cpus_per_worker",
        "accelerator_type",
        "label_selector",
        "log_every_steps",
        "max_failures",
        "checkpoint",
        "micro_batch_size",
        "local_loss",
        "on_non_finite_loss",
        "compile",
        "gradient_checkpointing",
        "learning_rate",
        "gradient_clip_norm",
        "export_every_epochs",
        "price",
        "expected_images_per_s",
    )
)
"""What may change between restarts of one training run, by dotted key."""


def _identity(experiment: Mapping[str, Any], text: TextConfig) -> dict[str, Any]:
    """What makes two configurations the same training run, by dotted key; the rest may change between restarts.

    `text` says whether the rewrites belong to it, and which.
    """
    values = {"seed": experiment["seed"], "stream.crop_scale": experiment["stream"]["crop_scale"]}
    if text.reads_rewrites:
        values["rewrite.gate"] = deciding_gate(experiment["rewrite"]["gate"])
        if not text.rewrites:
            values["rewrite.prompt_sets"] = experiment["rewrite"]["prompt_sets"]
    for section in ("data", "text", "model", "train"):
        values |= {f"{section}.{key}": value for key, value in experiment[section].items()}
    return {key: value for key, value in values.items() if key not in MAY_CHANGE}


def _check_place(experiment: Experiment) -> None:
    output = experiment.train_output
    url = storage.join(output, "experiment.json")
    if not storage.exists(url):
        if storage.exists(output) and storage.list_files(output):
            raise UserError(f"train.output: {output} holds files, but no training run; choose another place")
        return
    before, now = (
        _identity(content, experiment.text) for content in (storage.read_json(url), experiment.model_dump(mode="json"))
    )
    if changed := [key for key in now if before.get(key) != now[key]]:
        raise UserError(
            f"train.output: {output} holds another training run ({', '.join(changed)} differ); "
            "choose another place, or set these back"
        )


def _rows_url(experiment: Experiment) -> str:
    return storage.join(experiment.train_output, "rows.json")


def _known_rows(experiment: Experiment) -> dict[str, int] | None:
    """What `count_rows` gave when the run began; None if it has not begun."""
    url = _rows_url(experiment)
    return storage.read_json(url) if storage.exists(url) else None


def count_rows(experiment: Experiment, shards: Sequence[Shard]) -> dict[str, int]:
    """Rows with a caption and an image member, by shard; counted by tasks of the Ray that is connected to."""
    import ray

    data = experiment.data

    def count_one(shard: Shard) -> int:
        unusable = {*NO_CAPTION, IMAGE_MISSING}
        return sum(1 for each in read_samples(shard, data, with_images=False) if not unusable & {*each.problems})

    # Mostly waits for storage. Spread, so that it is outside of a Tune trial's placement group.
    @ray.remote(num_cpus=0.5, scheduling_strategy="SPREAD")
    def count(some: Sequence[Shard]) -> list[int]:
        with ThreadPoolExecutor(_COUNTED_AT_ONCE) as pool:
            return list(pool.map(count_one, some))

    # Not a process for each shard: of a small Ray's two cores they would take seconds to start.
    size = min(_COUNTED_BY_A_TASK, math.ceil(len(shards) / max(1.0, ray.cluster_resources().get("CPU", 1.0))))
    pieces = [shards[start : start + size] for start in range(0, len(shards), size)]
    counts = [number for piece in ray.get([count.remote(piece) for piece in pieces]) for number in piece]
    return {shard.name: number for shard, number in zip(shards, counts, strict=True)}


_COUNTED_AT_ONCE = 8
"""Shards that a task reads side by side."""
_COUNTED_BY_A_TASK = 64
"""Shards at most: a task that is lost is done again."""


_BATCHES_AHEAD = 4
"""Global batches that wait for the workers while text is being made: what is read later has more of it."""


def _abort(controller: Any) -> None:
    """End the workers, which outlive their driver's interruption where its process goes on, as a notebook's does."""
    import ray

    if controller is None:
        return
    try:
        ray.get(controller.abort.remote(), timeout=_ABORT_TIMEOUT_S)
    except ray.exceptions.RayError:  # it is gone, as it is to be, or does not answer
        ray.kill(controller)


_ABORT_TIMEOUT_S = 10.0


class TrainingStoppedError(Exception):
    """Training ended early because it was told to."""


@contextmanager
def _aborted_on(stop: threading.Event | None, trainer: Any) -> Iterator[None]:
    """Abort a trainer's workers when `stop` is set.

    An interruption of the main thread would not do: it is lost where the process ignores SIGINT, as under `nohup`.
    """
    if stop is None:
        yield
        return
    if stop.is_set():
        raise TrainingStoppedError("training was told to stop")
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_LOOK_EVERY_S):
            if stop.is_set() and trainer.controller is not None:
                _abort(trainer.controller)
                return

    watching = threading.Thread(target=watch, daemon=True, name="stop")
    watching.start()
    try:
        yield
    finally:
        is_over.set()
        watching.join()


_LOOK_EVERY_S = 0.2
_TIMEOUT_S, _TEXT_TIMEOUT_S = 1_800, 7 * 24 * 3_600
"""Of one worker's wait for another, which may be waiting for text. One that dies is noticed by Ray Train."""


def _fit(given: LoopInput, spec: StreamSpec, stop: threading.Event | None) -> None:
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    class Trainer(TorchTrainer):
        """Leaves Ctrl-C to the driver, which drops what is in hand and ends as incomplete.

        Ray's own handler says that the run ended well.
        """

        controller: Any = None

        def _register_sigint_handler(self, controller: Any) -> None:
            self.controller = controller

    experiment = given.experiment
    train = experiment.train
    output = experiment.train_output

    def dataset() -> Any:
        # Called at each start of the worker group, so that it continues from the checkpoint that they load.
        warm_up(spec)
        position = read_position(output)
        if given.supply is not None:
            given.supply.record_start(position.done_below)
        return build_stream(spec, position, given.supply)

    run_config: Any = ray.train.RunConfig  # typed by Ray as older versions, which lack arguments
    scaling_config: Any = ray.train.ScalingConfig
    ray_filesystem, path = storage.ray_filesystem(output)
    gpus = cluster.gpus_each(train.gpus_per_worker)
    options = ray.train.DataConfig.default_ingest_options()
    options.preserve_order = experiment.stream.order == "exact"
    ahead = experiment.stream.read_ahead_rows
    if ahead is None and given.supply is not None and not given.supply.is_blocking:
        ahead = _BATCHES_AHEAD * train.batch_size
    if ahead is not None:
        room = read_ahead_bytes(spec, ahead)
        options.resource_limits = ray.data.ExecutionResources.for_limits(object_store_memory=room)
    workers: Any = train.workers  # typed by Ray as an older version without ranges
    if not isinstance(workers, int):
        workers = (workers.min, workers.max)
    timeout_s = _TIMEOUT_S if given.supply is None else _TEXT_TIMEOUT_S
    trainer = Trainer(
        train_worker,
        train_loop_config={"input": given},
        datasets={"train": dataset},
        dataset_config=ray.train.DataConfig(
            execution_options=options, enable_shard_locality=experiment.stream.order == "fast"
        ),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo", timeout_s=timeout_s),
        scaling_config=scaling_config(
            num_workers=workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": train.cpus_per_worker, **({"GPU": gpus} if gpus else {})},
            accelerator_type=train.accelerator_type,
            label_selector=train.label_selector or None,
        ),
        run_config=run_config(
            name=RAY_RUN_NAME,
            storage_path=path,
            storage_filesystem=ray_filesystem,
            failure_config=ray.train.FailureConfig(max_failures=train.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=train.checkpoint.keep,
                checkpoint_score_attribute="loss" if train.checkpoint.keep_lowest_loss else None,
                checkpoint_score_order="min",
            ),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    try:
        with _aborted_on(stop, trainer):
            trainer.fit()
    except KeyboardInterrupt:
        _abort(trainer.controller)
        raise
    except (ray.train.TrainingFailedError, ray.exceptions.RayActorError) as error:
        _abort(trainer.controller)  # where it is only out of reach
        if stop is not None and stop.is_set():
            raise TrainingStoppedError("training was told to stop") from error
        newest = newest_checkpoint(output)
        where = f"the newest checkpoint is {newest}" if newest else "no checkpoint was made yet"
        raise IncompleteError(f"training ended early ({error}); {where}; the same command continues") from error
    stopped = non_finite_url(output)
    if storage.exists(stopped):
        found = storage.read_json(stopped)
        ids = found["ids"]
        what = f"the loss of step {found['step']} is not finite; its batch is {', '.join(ids[:10])}"
        if not ids:
            what = f"a weight is not finite after step {found['step']}, and no checkpoint was made of it"
        elif len(ids) > 10:
            what += f" and {len(ids) - 10} more, in {stopped}"
        raise IncompleteError(
            f"{what}. Look at the samples, lower train.learning_rate, set train.gradient_clip_norm, or leave such "
            "batches out with train.on_non_finite_loss=skip; the same command continues from the newest checkpoint. If "
            "its weights were out of hand already, choose another train.output"
        )


def _steps_done(experiment: Experiment) -> int:
    """Steps of the newest checkpoint."""
    newest = newest_checkpoint(experiment.train_output)
    return int(storage.read_json(storage.join(newest, STATE_FILE))["step"]) if newest is not None else 0


NOTHING_USABLE = "nothing_usable_in_shard"
"""Why a sample was skipped: nothing could be read of its shard in that epoch, so that no row of it says why."""


def _unread(position: Position, schedule: Schedule, rows: Mapping[str, int], batch_size: int) -> Counter[str]:
    """The samples of the entries of which nothing came, by shard, at the end of the schedule.

    Nothing where they are fewer than a batch: they may be in the last one, which was not whole.
    """
    names, unread = list(rows), Counter[str]()
    remaining = position.remaining(schedule)
    for index in (remaining[place] for place in range(len(remaining))):
        name = names[schedule.entry(index).shard]
        if index not in position.rows and rows[name]:
            unread[name] += rows[name]
    return unread if unread.total() >= batch_size else Counter()


def _finish(given: LoopInput, schedule: Schedule, rows: Mapping[str, int]) -> TrainingResult:
    """Export the last checkpoint's model and write the summary; the summary last. A run that pauses has neither."""
    experiment = given.experiment
    newest = newest_checkpoint(experiment.train_output)
    assert newest is not None, "a training run that ended well has a checkpoint"
    state = storage.read_json(storage.join(newest, STATE_FILE))
    if not state["step"]:
        raise IncompleteError(
            "no step was made: fewer usable images than one batch. Look at the images in "
            f"{experiment.data.path}, or lower train.batch_size"
        )
    rewrite_sets = given.lineage["rewrite_sets"]
    if state["lineage"]["rewrite_sets"] != rewrite_sets:
        # It has what was committed when its run was started; rewriting beside it has gone on since.
        state["lineage"]["rewrite_sets"] = rewrite_sets
        storage.write_json(storage.join(newest, STATE_FILE), state)
    export = newest if given.last_step is not None else export_location(experiment)
    shown_counts = shown_counts_from_json(state["sources"])
    skipped, skipped_names = dict(state["skipped"]), dict(state["skipped_names"])
    if given.last_step is None and (
        unread := _unread(Position.from_json(state["position"]), schedule, rows, experiment.train.batch_size)
    ):
        skipped[NOTHING_USABLE], skipped_names[NOTHING_USABLE] = unread.total(), sorted(unread)[:NAMES_KEPT]
        logger.warning(
            "%d samples of %d shards were not trained on, because nothing in their shards was usable then: %s",
            unread.total(), len(unread), ", ".join(skipped_names[NOTHING_USABLE]),
        )  # fmt: skip
    summary = {
        "steps": state["step"],
        "samples": state["samples"],
        "epochs": experiment.train.epochs,
        "samples_per_epoch": given.samples_per_epoch,
        **text_shares(shown_counts, given.text),
        "by_epoch": {epoch: text_shares({epoch: counts}, given.text) for epoch, counts in shown_counts.items()},
        "skipped": skipped,
        "skipped_batches": state["skipped_batches"],
        "skipped_names": skipped_names,
        "not_trained_on": given.samples_per_epoch * experiment.train.epochs - state["samples"],
        "checkpoint": newest,
        "export": export,
        "lineage": given.lineage,
    }
    if given.last_step is not None:
        return TrainingResult(summary, export)
    with tempfile.TemporaryDirectory() as directory:
        for name in (MODEL_FILE, CONFIG_FILE):
            (Path(directory) / name).write_bytes(storage.read_bytes(storage.join(newest, name)))
        storage.copy_directory(directory, export)
    storage.write_json(storage.join(experiment.train_output, "summary.json"), summary)
    return TrainingResult(summary, export)
