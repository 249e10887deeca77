"""Settings that fit a dataset: batch, epochs, warm-up, intervals, and the held-out share. Pure.

The paper trains 35 epochs of 10 M samples (40 of 3 M) with batches of 8,192. Smaller data gets smaller batches, so an
epoch stays some dozens of steps, and each has enough steps for its warm-up. These are starting points, not results.
"""

import math
from dataclasses import dataclass

STEPS_AN_EPOCH = 64
"""Aimed at."""
LEAST_BATCH, MOST_BATCH = 32, 8_192
MOST_ON_GPU, MOST_ON_CPU = 1_024, 128
"""Samples of a batch for each worker. `train.micro_batch_size` allows more on a GPU."""
LEAST_STEPS = 4
"""Least steps an epoch, if there are enough samples: batches of small data are below `LEAST_BATCH`."""
WARMUP_STEPS = 500
_LEAST_CHECKPOINT_STEPS = 50
"""Steps between checkpoints, at least: epochs of small data take seconds."""
SMALL_BATCH = 1_024
"""Up to here, CLIP's own peak learning rate is used; above it, the paper's."""
MOST_SAMPLES_ON_CPU = 20_000
"""Up to here, a machine without a GPU gets settings for a try on its CPU. The config of larger data is for a GPU."""
CPU_IMAGES = 3_000
"""Images that such a try trains on in all, about: five minutes with a small CLIP on a few cores."""
HELD_OUT_PICTURES = 5_000
"""As many as COCO's retrieval set has, if the data has enough."""
LEAST_HELD_OUT = 0.01
"""Of large data more pictures are held out than are measured. Evaluation reads shards until it has enough, and with a
smaller share it would read all."""


@dataclass(frozen=True)
class Settings:
    """Values of a config."""

    held_out: float
    """`data.held_out`; 0 if the data has a split of its own to measure."""
    measured: int | None
    """Measured held-out pictures. None: all."""
    batch_size: int
    workers: int
    epochs: int
    has_few_epochs: bool
    """Fewer than the paper's, for a try on a CPU."""
    learning_rate: float
    warmup_epochs: float
    log_every_steps: int
    checkpoint_steps: int
    trained: int
    """Samples of an epoch, expected."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch, expected; at least 1."""
        return max(1, self.trained // self.batch_size)


def planned_gpus(samples: int, gpus: int) -> int:
    """The GPUs that a config is written for: this machine's, or one elsewhere if the data is too large for a CPU.

    >>> planned_gpus(1_000, gpus=0), planned_gpus(1_000_000, gpus=0), planned_gpus(1_000, gpus=2)
    (0, 1, 2)
    """
    return gpus or int(samples > MOST_SAMPLES_ON_CPU)


def settings_for(samples: int, gpus: int, has_split: bool = False) -> Settings:
    """Settings for a dataset.

    Args:
        samples: its captioned pictures; at least 1.
        gpus: to train on. 0: training is a try on a CPU.
        has_split: whether the data has a split of its own to measure, so no sample is held out.
    """
    held_out = 0.0 if has_split else held_out_share(samples)
    trained = max(1, samples - math.ceil(samples * held_out))
    workers = max(1, gpus)
    batch, workers = _batch(trained, workers, MOST_ON_GPU if gpus else MOST_ON_CPU)
    epochs = _epochs(samples) if gpus else max(2, min(_epochs(samples), CPU_IMAGES // trained))
    steps = max(1, trained // batch)
    warmup = min(max(1.0, WARMUP_STEPS / steps), epochs / 10)
    return Settings(
        held_out=held_out,
        measured=HELD_OUT_PICTURES if samples * held_out > 1.1 * HELD_OUT_PICTURES else None,
        batch_size=batch,
        workers=workers,
        epochs=epochs,
        has_few_epochs=epochs < _epochs(samples),
        learning_rate=5e-4 if batch <= SMALL_BATCH else 1e-3,
        warmup_epochs=round(warmup, 1),
        log_every_steps=max(1, min(10, steps // 4)),
        checkpoint_steps=max(min(_LEAST_CHECKPOINT_STEPS, epochs * steps), min(500, steps)),
        trained=trained,
    )


def held_out_share(samples: int) -> float:
    """The share kept for evaluation: enough for `HELD_OUT_PICTURES`, and 20 % of small data at most.

    >>> held_out_share(12_000_000), held_out_share(200_000), held_out_share(1_000), held_out_share(12)
    (0.01, 0.025, 0.1, 0.2)
    """
    wanted = min(HELD_OUT_PICTURES, max(0.05 * samples, min(100, 0.2 * samples)))
    return max(LEAST_HELD_OUT, float(f"{wanted / samples:.2g}"))


def _epochs(samples: int) -> int:
    """The paper's epochs for data of this size (CC3M 40, CC12M 35), LAION-400M's 32 above."""
    return 40 if samples < 5_000_000 else 35 if samples < 100_000_000 else 32


def _batch(samples: int, workers: int, most_per_worker: int) -> tuple[int, int]:
    """The global batch, a multiple of the workers, and their number: fewer than wanted if there are few samples."""
    least = min(LEAST_BATCH, max(1, samples // LEAST_STEPS))
    wanted = max(_power_of_two(samples // STEPS_AN_EPOCH), least)
    most = min(MOST_BATCH, most_per_worker * workers)
    batch = min(wanted, most)
    workers = min(workers, batch)
    return batch - batch % workers, workers


def _power_of_two(number: int) -> int:
    """The largest power of two up to a number; 1 for 0."""
    return 1 << max(number.bit_length() - 1, 0)
