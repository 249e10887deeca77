"""The training stream: a Ray Data dataset of everything that remains of the schedule.

    schedule entries -> reading tasks (see `entries`) -> rows

One dataset serves the whole run, so Ray Data does not execute it again after an epoch. Resuming means building the
dataset from another position.
"""

from dataclasses import dataclass
from typing import Any

from laclip_ray import cluster
from laclip_ray.data.entries import ReadEntries, StreamSpec, TextSupply, WaitForText
from laclip_ray.data.images import load_resizer
from laclip_ray.data.schedule import Lanes, Position, Remaining
from laclip_ray.data.tokens import TokenizerSpec, load_clip_tokenizer

_MAX_TASKS = 4_096
"""About the number of reading tasks of a run in `fast` order. Ray Data creates all input blocks before the first task
starts, so a schedule of a million entries needs tasks that read several entries."""

_MAX_LANE_ENTRIES = 64
"""Most entries that one task reads. If a node is lost, Ray restarts its tasks from their first entry."""

_WAITING_TASKS = 4
"""Tasks that wait for rewrites at the same time."""

_MAX_WARMED_PROCESSES = 4
"""The first blocks come from these processes. If reading is the bottleneck, Ray starts more."""

_BLOCKS_PER_TASK = 4
"""Blocks of each reading task that the object store must hold beside the rows read ahead. With less room, Ray Data
starts tasks one by one, and cannot start one at all while another waits for rewrites."""

_DEFAULT_CONTEXT_LENGTH = 77
"""Tokens per text of a tokeniser whose spec names no length: CLIP's own."""


def build_stream(spec: StreamSpec, position: Position, supply: TextSupply | None = None) -> Any:
    """Build the Ray Data dataset of all rows not yet consumed, with the columns of `entries.Batch`.

    Args:
        spec: the stream's spec.
        position: the rows consumed before.
        supply: rewriting that runs beside training. If it is blocking, a task reads a shard only after the shard's
            rewrites are committed.
    """
    import ray

    from laclip_ray.data.executor_throttle import limit_overhead

    remaining = position.remaining(spec.schedule)
    is_exact = spec.stream.order == "exact"
    blocking_supply = supply if supply is not None and supply.is_blocking else None
    lanes = _deal(spec, remaining, waits_for_text=blocking_supply is not None)
    dataset = ray.data.range(len(lanes), override_num_blocks=max(1, len(lanes)))
    if blocking_supply is not None:
        # Waits in schedule order, which is also rewriting's order, so a restarted task waits for the same shards.
        wait: Any = ByReference(ray.put(WaitForText(spec, remaining, lanes, blocking_supply)))
        pool = ray.data.TaskPoolStrategy(size=_WAITING_TASKS)
        # A waiting task reserves no CPU: Ray Data may grant this stream a single one, which reading needs whole.
        dataset = dataset.map_batches(wait, batch_size=1, batch_format="numpy", num_cpus=0, compute=pool)
    read: Any = ByReference(ray.put(ReadEntries(spec, remaining, lanes, position.rows, supply)))
    pool = ray.data.TaskPoolStrategy(size=cluster.tasks_at_once())
    dataset = dataset.map_batches(read, batch_size=1, batch_format="numpy", num_cpus=1, compute=pool)
    if is_exact:
        # Ray deals blocks of one size to the workers in turn. After any step, their batches together are a prefix of
        # the stream, and a resumed run reads the rest of it.
        dataset = dataset.repartition(target_num_rows_per_block=spec.dealt_rows, strict=True)
    else:
        # Each batch that a task yields becomes a block. By default Ray Data collects 128 MiB first.
        dataset.context.target_max_block_size = int(0.8 * spec.stream.rows_per_block * _row_bytes(spec))
    dataset.context.execution_options.preserve_order = is_exact
    limit_overhead(dataset.context)
    return dataset


def _deal(spec: StreamSpec, remaining: Remaining, waits_for_text: bool) -> Lanes:
    """Deal the remaining entries to reading tasks.

    In `exact` order each task reads one entry: Ray Data delivers blocks in task order, so tasks with many entries
    would in effect read one after another. Entries of the first epoch that wait for rewrites also have a task each,
    because a task starts only once all of its shards have their rewrites.
    """
    if spec.stream.order == "exact":
        length = 1
    else:
        length = max(1, min(_MAX_LANE_ENTRIES, -(-len(remaining) // _MAX_TASKS)))
    return Lanes(
        count=len(remaining),
        length=length,
        width=_reading_tasks() if length > 1 else 1,
        singles=remaining.count_below(spec.schedule.shard_count) if waits_for_text else 0,
    )


@dataclass(frozen=True)
class ByReference:
    """A task that Ray loads from its object store.

    Ray copies a function of less than 100 KB into each task's description, and the driver keeps all descriptions: 60 KB
    per task until the run ends (Ray 2.60; 15,000 tasks for 400 shards: 0.9 GiB).
    """

    task: Any
    """Ray's reference to the task, a callable."""

    def __call__(self, batch: Any) -> Any:
        import ray

        return ray.get(self.task)(batch)


def warm_up(spec: StreamSpec) -> None:
    """Make Ray's first task processes import torch while the workers start; the import takes seconds.

    Call this in the process that calls `build_stream`: Ray shares task processes only within a runtime environment,
    and a task inherits the environment of the process that starts it. On a cluster of several nodes this function
    returns at once, because Ray does not tell in advance where it will run the reading tasks.
    """
    import ray

    @ray.remote(num_cpus=0)
    def load(tokenizer: TokenizerSpec) -> None:
        load_resizer()
        load_clip_tokenizer(tokenizer)

    free_cpus = ray.available_resources().get("CPU", 0.0)
    for _ in range(_processes_to_warm(len(cluster.alive_nodes()), _reading_tasks(), free_cpus)):
        load.remote(spec.tokenizer)


def _processes_to_warm(nodes: int, reading_tasks: int, free_cpus: float) -> int:
    return min(_MAX_WARMED_PROCESSES, reading_tasks, int(free_cpus)) if nodes == 1 else 0


def read_ahead_bytes(spec: StreamSpec, rows: int) -> int:
    """Object store memory that the stream needs for about `rows` rows to wait for the workers, in bytes."""
    return (rows + _BLOCKS_PER_TASK * _reading_tasks() * spec.stream.rows_per_block) * _row_bytes(spec)


def _row_bytes(spec: StreamSpec) -> int:
    """About the size of a row in a block, in bytes."""
    token_count = spec.text.slots * (spec.tokenizer.context_length or _DEFAULT_CONTEXT_LENGTH)
    return 3 * spec.image.size_px**2 + 8 * token_count + 64


def _reading_tasks() -> int:
    """Tasks that read at the same time on the present cluster, which may grow."""
    import ray

    return cluster.tasks_at_once() or max(1, int(ray.cluster_resources().get("CPU", 1)))
