"""Encoding on a Ray cluster: CPU tasks read and decode, a pool of actors encodes and commits.

A row of the stream is one part, pickled; Ray keeps it in memory and never on the storage. An actor that dies is
started again, and its parts are encoded again. A killed driver loses uncommitted parts.
"""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from laclip_ray import cluster
from laclip_ray.config import EvaluateConfig
from laclip_ray.errors import UserError
from laclip_ray.evaluation.features.encoder import Encoder
from laclip_ray.evaluation.features.encoding import Done, EncodingModel, Work, encode_read, read_work
from laclip_ray.evaluation.features.store import FeatureStore
from laclip_ray.models.loading import load_model
from laclip_ray.models.pixel_transform import PixelTransform

_COLUMN = "content"


@dataclass(frozen=True)
class PooledModel:
    """A model as the processes of a cluster load it."""

    location: str
    pretrained: str | None
    digest: str
    """Of the weights that the driver found there."""
    transform: PixelTransform
    store: FeatureStore


class _ReadWork:
    """A task that reads work and decodes its images."""

    def __init__(self, transforms: Sequence[PixelTransform]) -> None:
        self._transforms = list(transforms)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for content in batch.column(_COLUMN).to_pylist():
            for read in read_work(pickle.loads(content), self._transforms):  # noqa: S301 - of this very run
                yield _row(read)


class _EncodingActor:
    """An actor that holds the models."""

    def __init__(self, models: Sequence[PooledModel], batch_size: int, precision: Any) -> None:
        import torch

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._models = []
        for model in models:
            loaded = load_model(model.location, model.pretrained, device, "evaluate.checkpoint")
            encoder = Encoder(loaded, device, batch_size, precision)
            if encoder.digest != model.digest:
                raise UserError(
                    f"evaluate.checkpoint: {model.location} has other weights on this node than where the run started; "
                    "give a location that all nodes see, or copy the same files to each"
                )
            self._models.append(EncodingModel(encoder, model.store))

    def __call__(self, batch: pa.Table) -> pa.Table:
        (content,) = batch.column(_COLUMN).to_pylist()
        return _row(encode_read(pickle.loads(content), self._models))  # noqa: S301 - of this very run


def _row(value: Any) -> pa.Table:
    return pa.table({_COLUMN: pa.array([pickle.dumps(value, protocol=5)], pa.large_binary())})


def encoder_group(config: EvaluateConfig) -> cluster.ResourceGroup:
    """The processes that encoding starts with."""
    return cluster.ResourceGroup("encoders", config.encoders.min, 1.0, None)


def encode_on_cluster(work: Sequence[Work], models: Sequence[PooledModel], config: EvaluateConfig) -> Iterator[Done]:
    """Do the work on the Ray cluster that this process is connected to."""
    import ray

    from laclip_ray.data.executor_throttle import limit_overhead  # imports Ray

    if not work:
        return
    limit_overhead(ray.data.DataContext.get_current())
    transforms = list({model.transform.digest: model.transform for model in models}.values())
    rows = ray.data.from_arrow([_row(each) for each in work])  # a block for each, so each is a task of its own
    parts = rows.map_batches(_ReadWork(transforms).__call__, batch_size=1, batch_format="pyarrow", num_cpus=0.5)
    done = parts.map_batches(
        _EncodingActor,
        fn_constructor_args=(list(models), config.batch_size, config.precision),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=1,
        num_gpus=cluster.gpus_per_process(None),
        compute=ray.data.ActorPoolStrategy(min_size=config.encoders.min, max_size=config.encoders.max),
    )
    for batch in done.iter_batches(batch_size=1, batch_format="pyarrow"):
        assert isinstance(batch, pa.Table)
        for content in batch.column(_COLUMN).to_pylist():
            yield pickle.loads(content)  # noqa: S301 - of this very run
