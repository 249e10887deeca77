"""Run Ray Train: configure its trainer, run it to the end, and stop its workers early if asked."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from laclip_ray import cluster, progress, storage
from laclip_ray.config import TrainConfig
from laclip_ray.data.entries import StreamSpec
from laclip_ray.data.stream import build_stream, read_ahead_bytes, warm_up
from laclip_ray.endings.causes import describe
from laclip_ray.endings.surroundings import continuation
from laclip_ray.errors import IncompleteError
from laclip_ray.printable import counted
from laclip_ray.progress.messages import Phase, TrainingEnd, workers_key
from laclip_ray.tally import first_names
from laclip_ray.training.checkpoint import newest_checkpoint, read_position
from laclip_ray.training.loop import LoopInput, train_worker
from laclip_ray.training.paths import RAY_RUN_NAME, RunPaths

_FOLLOW_AHEAD_BATCHES = 4
"""Global batches that may wait for the workers while rewriting runs beside them. Samples read later find more
rewrites."""
_ABORT_TIMEOUT_S = 10.0
"""How long Ray Train's controller may take to stop the workers before it is killed."""
_STOP_POLL_S = 0.2
_WORKER_TIMEOUT_S, _WORKER_TEXT_TIMEOUT_S = 1_800, 7 * 24 * 3_600
"""How long a worker waits for another one, without and with rewriting in the same job: the other may be waiting for
rewrites. Ray Train itself notices a worker that died."""
_IDS_SHOWN = 10
"""Samples that an error message names."""


class TrainingStoppedError(Exception):
    """Training ended early because its caller asked for that."""


def fit(inputs: LoopInput, spec: StreamSpec, should_stop: Callable[[], bool]) -> None:
    """Train with Ray Train to the end of the schedule, or to `inputs.last_step`.

    Args:
        inputs: for the workers.
        spec: of the stream.
        should_stop: whether to end the workers early. Called several times a second, in another thread.

    Raises:
        TrainingStoppedError: `should_stop` said so.
        IncompleteError: training ended early; the message says when the same command resumes.
    """
    import ray.train

    trainer = _build_trainer(inputs, spec)
    progress.tell(Phase(workers_key(inputs.paths.output), f"starting {_workers(inputs.experiment.train)}"))
    try:
        with _aborted_by(should_stop, trainer):
            trainer.fit()
    except KeyboardInterrupt:
        _abort(trainer.controller)
        raise
    except (ray.train.TrainingFailedError, ray.exceptions.RayActorError) as error:
        _abort(trainer.controller)  # in case the controller is alive, but out of reach
        if should_stop():
            raise TrainingStoppedError("training was told to stop") from error
        newest = newest_checkpoint(inputs.paths.output)
        where = f"the newest checkpoint is {newest}" if newest else "no checkpoint was made yet"
        raise IncompleteError(f"training ended early ({describe(error)}); {where}; {continuation(error)}") from error
    finally:
        progress.tell(TrainingEnd(inputs.paths.output))
    _check_finite(inputs.paths)


def _workers(train: TrainConfig) -> str:
    """The workers in words."""
    workers = train.worker_range
    most = counted(workers.max, "worker")
    return most if workers.min == workers.max else f"{workers.min} to {most}"


def _check_finite(paths: RunPaths) -> None:
    """Raise IncompleteError if a loss or weight was not finite, with the samples of the batch."""
    if not storage.exists(paths.non_finite):
        return
    content = storage.read_json(paths.non_finite)
    step, ids = content["step"], content["ids"]
    if ids:
        problem = f"the loss of step {step} is not finite; its batch is {first_names(ids, _IDS_SHOWN)}"
        problem += f", in {paths.non_finite}" if len(ids) > _IDS_SHOWN else ""
    else:
        problem = f"a weight is not finite after step {step}, and no checkpoint was made of it"
    raise IncompleteError(
        f"{problem}. Look at the samples, lower train.learning_rate, set train.gradient_clip_norm, or skip such "
        "batches with train.on_non_finite_loss=skip; the same command continues from the newest checkpoint. If its "
        "weights had already diverged, choose another train.output"
    )


def _build_trainer(inputs: LoopInput, spec: StreamSpec) -> Any:
    from ray.train.torch import TorchConfig, TorchTrainer

    class Trainer(TorchTrainer):
        """Leaves Ctrl-C to the driver, which drops unfinished steps and ends the run as incomplete.

        Ray's own handler would end the run as a success.
        """

        controller: Any = None

        def _register_sigint_handler(self, controller: Any) -> None:
            self.controller = controller

    train, supply = inputs.experiment.train, inputs.supply

    def dataset() -> Any:
        """The stream from the newest checkpoint. Ray Train calls this at each start of the workers."""
        warm_up(spec)
        position = read_position(inputs.paths.output)
        if supply is not None:
            supply.record_start(position.done_below)
        return build_stream(spec, position, supply)

    return Trainer(
        train_worker,
        train_loop_config={"input": inputs},
        datasets={"train": dataset},
        dataset_config=_data_config(inputs, spec),
        torch_config=TorchConfig(
            backend="nccl" if cluster.gpus_per_process(train.gpus_per_worker) else "gloo",
            timeout_s=_WORKER_TIMEOUT_S if supply is None else _WORKER_TEXT_TIMEOUT_S,
        ),
        scaling_config=_scaling_config(train),
        run_config=_run_config(train, inputs.paths),
    )


def _data_config(inputs: LoopInput, spec: StreamSpec) -> Any:
    """How Ray Data runs the stream: its order, and its memory."""
    import ray.train

    # A copy, and not Ray Train's default_ingest_options(), which sets an option that Ray Data warns about.
    options = copy.deepcopy(ray.data.DataContext.get_current().execution_options)
    options.preserve_order = spec.stream.order == "exact"
    options.label_selector = dict(spec.stream.label_selector) or None
    ahead_rows = spec.stream.read_ahead_rows
    if ahead_rows is None and inputs.supply is not None and not inputs.supply.is_blocking:
        ahead_rows = _FOLLOW_AHEAD_BATCHES * inputs.experiment.train.batch_size
    if ahead_rows is not None:
        room = read_ahead_bytes(spec, ahead_rows)
        options.resource_limits = ray.data.ExecutionResources.for_limits(object_store_memory=room)
    return ray.train.DataConfig(execution_options=options, enable_shard_locality=spec.stream.order == "fast")


def _scaling_config(train: TrainConfig) -> Any:
    """How many workers Ray Train starts, and their resources."""
    import ray.train

    scaling_config: Any = ray.train.ScalingConfig  # Ray ships the types of an older version
    gpus = cluster.gpus_per_process(train.gpus_per_worker)
    workers = train.workers
    return scaling_config(
        num_workers=workers if isinstance(workers, int) else (workers.min, workers.max),
        use_gpu=gpus > 0,
        resources_per_worker={"CPU": train.cpus_per_worker, **({"GPU": gpus} if gpus else {})},
        accelerator_type=train.accelerator_type,
        label_selector=train.label_selector or None,
    )


def _run_config(train: TrainConfig, paths: RunPaths) -> Any:
    """Where Ray Train keeps checkpoints, which ones, and how many failures it repairs."""
    import ray.train

    run_config: Any = ray.train.RunConfig  # Ray ships the types of an older version
    filesystem, path = storage.ray_filesystem(paths.output)
    return run_config(
        name=RAY_RUN_NAME,
        storage_path=path,
        storage_filesystem=filesystem,
        failure_config=ray.train.FailureConfig(max_failures=train.max_failures),
        checkpoint_config=ray.train.CheckpointConfig(
            num_to_keep=train.checkpoint.keep,
            checkpoint_score_attribute="loss" if train.checkpoint.keep_lowest_loss else None,
            checkpoint_score_order="min",
        ),
        logging_config=ray.train.LoggingConfig(log_level="WARNING"),
    )


@contextmanager
def _aborted_by(should_stop: Callable[[], bool], trainer: Any) -> Iterator[None]:
    """Abort a trainer's workers when `should_stop` says so.

    Interrupting the main thread would not work: a process that ignores SIGINT, as under `nohup`, loses the
    interruption.
    """
    if should_stop():
        raise TrainingStoppedError("training was told to stop")
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(_STOP_POLL_S):
            if should_stop() and trainer.controller is not None:
                _abort(trainer.controller)
                return

    watcher = threading.Thread(target=watch, daemon=True, name="stop")
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()


def _abort(controller: Any) -> None:
    """End the workers. They would outlive an interrupted driver whose process continues, such as a notebook's."""
    import ray

    if controller is None:
        return
    try:
        ray.get(controller.abort.remote(), timeout=_ABORT_TIMEOUT_S)
    except ray.exceptions.RayError:  # already gone, as intended, or not answering
        ray.kill(controller)
