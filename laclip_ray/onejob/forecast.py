"""Forecasts of each delivery: its time, GPUs and money, and the share of rewrites that come too late for an epoch.

The model: rewriting all shards takes R hours with its engines, an epoch of training E hours with its workers, N epochs
are left, and both halves go through the shards at a steady rate.

    ahead    R + N E hours; no rewrite is late
    inline   max(R, E) + (N - 1) E hours: in the first epoch the slower half sets the pace; no rewrite is late
    follow   max(R, N E) hours. Rewriting takes the shard that training reads next (`priority`), so in each epoch
             E / R of the shards are rewritten in time. In epoch k (from 0), all but (k + 1) E / R of the shards are
             late. If some shards are rewritten already, these shares are of the others.

Engines are paid for R hours, and workers from the first batch to the last, if the cluster releases idle nodes
(`ray.autoscaling`). Otherwise all GPUs are paid until the job ends. `ahead` then pays for the GPUs of the larger half
only, if both halves can use the same ones.

Not covered: the start of engines and workers, pools that grow or shrink, storage and CPUs, work repeated after a
failure, and the contention of both halves for the CPUs of one machine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import add

from laclip_ray.config import Delivery


@dataclass(frozen=True)
class Halves:
    """What rewriting and training take alone."""

    rewriting_hours: float
    epoch_hours: float
    epochs: float
    """Epochs left to train."""
    engine_gpus: float
    """GPUs of all engines."""
    worker_gpus: float
    """GPUs of all workers."""
    engine_price: float | None = None
    """Price of a GPU-hour of an engine."""
    worker_price: float | None = None
    """Price of a GPU-hour of a worker."""
    left_share: float = 1.0
    """Share of all shards without their rewrites."""
    on_same_gpus: bool = False
    """Whether engines may use the GPUs that workers use later."""


@dataclass(frozen=True)
class Forecast:
    """The time, GPUs and money of a delivery."""

    delivery: Delivery
    hours: float
    gpu_hours: float
    money: float | None
    """None if a price is unknown."""
    late_shares: tuple[float, ...]
    """By epoch, the share of shards read before their rewrites are committed."""


def forecasts(halves: Halves, is_released: bool) -> tuple[Forecast, ...]:
    """The forecasts of `ahead`, `inline` and `follow`.

    Args:
        halves: what each half takes.
        is_released: whether the cluster releases idle GPUs, so they are free.
    """
    rewriting, training = halves.rewriting_hours, halves.epochs * halves.epoch_hours
    first_epoch = min(halves.epoch_hours, training)
    inline = max(rewriting, first_epoch) + training - first_epoch
    never_late = (0.0,) * _whole(halves.epochs)
    return (
        _price("ahead", rewriting + training, training, never_late, halves, is_released),
        _price("inline", inline, inline, never_late, halves, is_released),
        _price("follow", max(rewriting, training), training, late_shares(halves), halves, is_released),
    )


def cheapest(options: Sequence[Forecast]) -> Forecast:
    """The forecast with the least money (without prices, the fewest GPU-hours); of equals, the one that ends first."""
    return min(options, key=lambda option: (option.gpu_hours if option.money is None else option.money, option.hours))


def late_shares(halves: Halves) -> tuple[float, ...]:
    """The share of shards that each epoch reads too early with `follow`."""
    in_time = halves.epoch_hours / halves.rewriting_hours if halves.rewriting_hours else 1.0
    return tuple(halves.left_share * max(0.0, 1 - (epoch + 1) * in_time) for epoch in range(_whole(halves.epochs)))


def _whole(epochs: float) -> int:
    return max(1, round(epochs))


def _price(
    delivery: Delivery, hours: float, worker_hours: float, late: tuple[float, ...], halves: Halves, is_released: bool
) -> Forecast:
    """The forecast of a job of `hours`, which needs its workers for `worker_hours` of them."""
    engine_gpu_hours = halves.engine_gpus * (halves.rewriting_hours if is_released else hours)
    worker_gpu_hours = halves.worker_gpus * (worker_hours if is_released else hours)
    shares_gpus = delivery == "ahead" and halves.on_same_gpus and not is_released
    combine: Callable[[float, float], float] = max if shares_gpus else add
    money = None
    if halves.engine_price is not None and halves.worker_price is not None:
        money = combine(engine_gpu_hours * halves.engine_price, worker_gpu_hours * halves.worker_price)
    return Forecast(delivery, hours, combine(engine_gpu_hours, worker_gpu_hours), money, late)
