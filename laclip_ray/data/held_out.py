"""Which samples `data.held_out` keeps out of training, for evaluation.

The choice is a pure function of (`data.held_out_seed`, id): it does not depend on workers, shards, the experiment's
seed or the other samples, so runs with other seeds are measured on the same pictures, and a dataset that grows keeps
them. It is nested: a larger share holds every sample of a smaller one.

All captions of a picture are on one side: rows that name one file have one draw, and so have rows of one id, whatever
number a repeated id or a further caption got.

Not covered: the same picture under different ids.
"""

from laclip_ray.config import DataConfig
from laclip_ray.data.records import DUPLICATE_ID, SHARD_TRUNCATED, SHARD_UNREADABLE, Sample, number_id
from laclip_ray.randomness import uniform

HELD_OUT = "held_out"
"""Reason to skip a sample: training leaves it to evaluation."""

_OF_SHARDS = frozenset({SHARD_TRUNCATED, SHARD_UNREADABLE})
"""Problems of rows that are no samples: they report the state of their shard."""


def is_held_out(sample: Sample, data: DataConfig) -> bool:
    """Whether training leaves a sample to evaluation.

    Args:
        sample: from `read_samples`.
        data: has the share and the seed.
    """
    if not data.held_out or not _OF_SHARDS.isdisjoint(sample.problems):
        return False
    return uniform(HELD_OUT, data.held_out_seed, own_id(sample)) < data.held_out


def is_for_evaluation(sample: Sample, data: DataConfig) -> bool:
    """Whether evaluation reads a row of the held-out samples: one of them, or a report on its shard."""
    return is_held_out(sample, data) or not _OF_SHARDS.isdisjoint(sample.problems)


def own_id(sample: Sample) -> str:
    """What all captions of a picture share: the file that their rows name, else their id without a number.

    >>> own_id(Sample(4, "a.jpg#2", "a cat", None, (DUPLICATE_ID,))), own_id(Sample(0, "x#caption3", "a", None, (), 2))
    ('a.jpg', 'x')
    """
    if sample.image_path is not None:
        return sample.image_path
    own = sample.id.rpartition("#")[0] if DUPLICATE_ID in sample.problems else sample.id
    return own.removesuffix(number_id("", sample.caption_number)) if sample.caption_number else own
