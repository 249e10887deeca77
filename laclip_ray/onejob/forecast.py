"""What each delivery takes in time, GPUs and money, and how much of the text comes late.

The model: rewriting all shards takes R hours with its engines, an epoch of training E hours with its workers, there
are N epochs, and both halves go through the shards at a steady rate.

    ahead    R + N E hours; no text is late
    inline   max(R, E) + (N - 1) E hours: in the first epoch the slower half sets the pace; no text is late
    follow   max(R, N E) hours; rewriting takes what is read next (`need`), so that an epoch's worth of rewriting, E / R
             of the shards, is in time in each epoch: of epoch k (from 0) all but (k + 1) E / R of the shards are late
             (where some are rewritten already, of those that are left)

Engines are paid for R hours and workers from the first batch to the last, where the cluster gives back what nobody uses
(`ray.autoscaling`); else all GPUs are paid for as long as the job takes. With `ahead` those are not the GPUs of both
halves but of the larger one, where both can be on the same.

Not covered: the start of engines and workers, pools that grow or shrink, storage and CPUs, what is done again after a
loss, and that both halves share a machine's CPUs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from operator import add


@dataclass(frozen=True)
class Halves:
    """What each half takes alone."""

    rewriting_hours: float
    epoch_hours: float
    epochs: float
    """That are left."""
    engine_gpus: float
    """GPUs of all engines."""
    worker_gpus: float
    """GPUs of all workers."""
    engine_price: float | None = None
    """Money for a GPU-hour of an engine."""
    worker_price: float | None = None
    """Money for a GPU-hour of a worker."""
    left_share: float = 1.0
    """Of all shards, those that are not rewritten yet."""
    on_same_gpus: bool = False
    """Whether engines can be on the GPUs on which workers are later."""


@dataclass(frozen=True)
class Forecast:
    """What a delivery takes."""

    delivery: str
    hours: float
    gpu_hours: float
    money: float | None
    """None where a price is not known."""
    late_shares: tuple[float, ...]
    """Of each epoch, the share of shards that are read before their rewrites are there."""


def forecasts(halves: Halves, is_given_back: bool) -> tuple[Forecast, ...]:
    """What `ahead`, `inline` and `follow` take; `is_given_back` says whether GPUs that nobody uses cost nothing."""
    rewriting, training = halves.rewriting_hours, halves.epochs * halves.epoch_hours
    first = min(halves.epoch_hours, training)
    beside = max(rewriting, first) + training - first
    none_late = (0.0,) * _whole(halves.epochs)
    return (
        _priced("ahead", rewriting + training, training, none_late, halves, is_given_back),
        _priced("inline", beside, beside, none_late, halves, is_given_back),
        _priced("follow", max(rewriting, training), training, late_shares(halves), halves, is_given_back),
    )


def cheapest(found: tuple[Forecast, ...]) -> Forecast:
    """The one of the least money (without prices: of the fewest GPU-hours); of equals the one that ends first."""
    return min(found, key=lambda each: (each.gpu_hours if each.money is None else each.money, each.hours))


def late_shares(halves: Halves) -> tuple[float, ...]:
    """Of each epoch with `follow`, the share of shards that are read too early."""
    in_time = halves.epoch_hours / halves.rewriting_hours if halves.rewriting_hours else 1.0
    return tuple(halves.left_share * max(0.0, 1 - (epoch + 1) * in_time) for epoch in range(_whole(halves.epochs)))


def _whole(epochs: float) -> int:
    return max(1, round(epochs))


def _priced(
    delivery: str, hours: float, worker_hours: float, late: tuple[float, ...], halves: Halves, is_given_back: bool
) -> Forecast:
    """A forecast of a job of `hours`, whose workers are needed for `worker_hours` of them."""
    engine_hours = halves.engine_gpus * (halves.rewriting_hours if is_given_back else hours)
    training_hours = halves.worker_gpus * (worker_hours if is_given_back else hours)
    both: Callable[[float, float], float] = (
        max if delivery == "ahead" and halves.on_same_gpus and not is_given_back else add
    )
    money = None
    if halves.engine_price is not None and halves.worker_price is not None:
        money = both(engine_hours * halves.engine_price, training_hours * halves.worker_price)
    return Forecast(delivery, hours, both(engine_hours, training_hours), money, late)
