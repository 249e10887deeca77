"""The hooks of a rewriting run: how training beside it learns of commits, orders the shards and ends the run."""

from collections.abc import Callable
from dataclasses import dataclass

from laclip_ray.rewriting.running.backlog import Backlog
from laclip_ray.rewriting.running.stages import ShardQueue


@dataclass(frozen=True)
class RunHooks:
    """How another activity (training, in `laclip run`) follows and steers a rewriting run. The defaults do neither.

    The driver's thread that runs `finish_rewriting` calls the functions. The queue travels to tasks.
    """

    on_settled: Callable[[str, int | None], None] = lambda *_: None
    """Called once for each unit that needs no more work in this run. The arguments are the shard's name and the number
    of accepted rewrites, 0 if the unit was found unchanged, None if it was given up."""
    cpus: float | None = None
    """Logical CPUs that rewriting may use. None: all."""
    queue: ShardQueue | None = None
    """Decides at run time which shard is rewritten next. None: the order of the backlog."""
    sort: Callable[[Backlog], None] = lambda _: None
    """Called once before the first shard, to reorder the backlog: comparing replaced files may have added units."""
    should_stop: Callable[[], bool] = lambda: False
    """Asked after every finished unit. True ends the run early, and it is incomplete."""


NO_HOOKS = RunHooks()
