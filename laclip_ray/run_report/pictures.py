"""The pictures of the samples that a report shows."""

from collections.abc import Mapping, Sequence
from typing import Any

from laclip_ray.config import parse_experiment
from laclip_ray.data.sample_pictures import PlacedKey, pictures_of
from laclip_ray.errors import UserError


def pictures_of_run(
    experiment: Mapping[str, Any], wanted: Sequence[PlacedKey], shards: int
) -> tuple[dict[PlacedKey, bytes], list[str]]:
    """Small copies of the pictures of samples, and notes on missing ones.

    Args:
        experiment: the run's config as JSON, perhaps of an earlier version; empty: it is not known.
        wanted: the samples.
        shards: of the dataset, about.
    """
    if not experiment:
        return {}, ["The pictures are not shown: nothing here names the data. Give the config instead of the output."]
    try:
        parsed = parse_experiment(dict(experiment), where="the recorded config")
    except UserError as error:
        return {}, [f"The pictures are not shown: {error}"]
    return pictures_of(parsed.data, parsed.output, wanted, shards)
