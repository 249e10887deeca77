"""Features of test sets by models of tests, made by the code that real models use."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image

from laclip_ray.config import RetrievalConfig
from laclip_ray.evaluation.captioned import CaptionedImage, captioned_images, captioned_sources
from laclip_ray.evaluation.coverage import Coverage
from laclip_ray.evaluation.features.encoder import Encoder
from laclip_ray.evaluation.features.encoding import EncodingModel, encode_here, image_work, text_units, text_work
from laclip_ray.evaluation.features.reading import FeatureReader, TextFeatures
from laclip_ray.evaluation.features.rows import Source
from laclip_ray.evaluation.features.store import FeatureStore
from laclip_ray.models.loading import LoadedModel

CPU = torch.device("cpu")


class TestModel:
    """A model without weights. A test gives `encode_image`, `encode_text` or both."""

    __test__ = False
    visual: Any = None

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.float()


def no_tokens(texts: Sequence[str], context_length: int = 2) -> torch.Tensor:
    """A tokeniser for models that encode no text."""
    return torch.zeros(len(texts), context_length, dtype=torch.int64)


@contextmanager
def encoding(
    model: Any,
    transform: Callable[[Image.Image], torch.Tensor] = lambda _: torch.zeros(1),
    tokenizer: Any = no_tokens,
    batch_size: int = 4,
) -> Iterator[EncodingModel]:
    """A model with a store of its own, which is removed."""
    with tempfile.TemporaryDirectory() as location:
        encoder = Encoder(LoadedModel(model, transform, tokenizer), CPU, batch_size, "fp32")
        yield EncodingModel(encoder, FeatureStore(location))


def read(model: EncodingModel, sources: Iterable[Source]) -> FeatureReader:
    """Encode shards, and read their features."""
    found = list(encode_here(image_work(sources, [model.store]), [model]))
    return FeatureReader(model.store, {done.unit: done.error for done in found if done.error})


def read_texts(model: EncodingModel, texts: Iterable[str]) -> TextFeatures:
    """Encode texts, and read their features."""
    units = text_units(texts)
    list(encode_here(text_work(units, [model.store]), [model]))
    return FeatureReader(model.store, {}).texts(units)


def captioned_rows(
    config: RetrievalConfig,
    transform: Callable[[Image.Image], torch.Tensor],
    coverage: Coverage | None = None,
    is_benchmark: bool = False,
) -> list[CaptionedImage]:
    """The rows of a captioned set; an image's embedding is its transformed pixels."""
    assert config.data is not None
    sources = captioned_sources(config.data, "data", config.held_out)
    with encoding(TestModel(), transform) as model:
        reader = read(model, sources)
        return list(captioned_images(config, sources, reader, coverage or Coverage(), is_benchmark))


def as_numbers(embedding: np.ndarray | None) -> list[float] | None:
    """An embedding as a list, for comparisons."""
    return None if embedding is None else embedding.tolist()
