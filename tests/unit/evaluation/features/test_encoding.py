"""What is committed is not made again, a killed run loses only parts, and a failing shard fails alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.features import parts
from laclip_ray.evaluation.features.encoder import Encoder
from laclip_ray.evaluation.features.encoding import (
    TEXTS_OF_UNIT,
    Done,
    EncodingModel,
    EncodingProgress,
    encode_here,
    image_work,
    text_units,
    text_work,
)
from laclip_ray.evaluation.features.reading import FeatureReader
from laclip_ray.evaluation.features.rows import Row
from laclip_ray.evaluation.features.store import FeatureStore
from laclip_ray.models.loading import LoadedModel
from tests.unit.conftest import picture
from tests.unit.evaluation.encoded import CPU, TestModel, no_tokens
from tests.unit.evaluation.features.sources import ListedSource
from tests.unit.evaluation.features.test_parts import width_of


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_ROWS", 2)


class Counting(TestModel):
    """Counts the images it encodes, and may die after some."""

    def __init__(self, images: int = 1_000) -> None:
        self.encoded: list[float] = []
        self._left = images

    def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
        if len(self.encoded) >= self._left:
            raise KeyboardInterrupt
        self.encoded += pixels[:, 0, 0, 0].tolist()
        return pixels.flatten(1)


def model_in(directory: Path, model: Any = None) -> EncodingModel:
    encoder = Encoder(LoadedModel(model or Counting(), width_of, no_tokens), CPU, 1, "fp32")
    return EncodingModel(encoder, FeatureStore(str(directory)))


def shard(count: int, key: str = "ab", first: int = 0, **options: Any) -> ListedSource:
    rows = [Row(f"{key}{number}", picture(width=10 + first + number)) for number in range(count)]
    return ListedSource(rows, name=key, key=key, **options)


def encode(model: EncodingModel, *sources: ListedSource) -> list[Done]:
    return list(encode_here(image_work(sources, [model.store]), [model]))


def features_of(model: EncodingModel, *sources: ListedSource) -> dict[str, list[float]]:
    reader = FeatureReader(model.store, {})
    rows = [row for source in sources for row in reader.rows(source)]
    return {row.id: row.embedding.tolist() for row in rows if row.embedding is not None}


def test_features_are_those_of_the_model(tmp_path: Path) -> None:
    model, source = model_in(tmp_path), shard(5)
    encode(model, source)
    assert features_of(model, source) == {f"ab{number}": [10.0 + number] * 3 for number in range(5)}


def test_committed_shards_are_not_made_again(tmp_path: Path) -> None:
    encode(model_in(tmp_path), shard(5))
    again, source = Counting(), shard(5)
    assert encode(model_in(tmp_path, again), source) == []
    assert again.encoded == []
    assert source.read == []


@pytest.mark.parametrize("killed_after", range(7))
def test_a_killed_run_continues_with_the_parts_that_are_missing(killed_after: int, tmp_path: Path) -> None:
    sources = [shard(5, "ab"), shard(2, "cd", first=50)]
    first = Counting(killed_after)
    if killed_after < 7:
        with pytest.raises(KeyboardInterrupt):
            encode(model_in(tmp_path, first), *sources)
    second = Counting()
    encode(model_in(tmp_path, second), *sources)
    lost = len(first.encoded) + len(second.encoded) - 7
    assert 0 <= lost < parts.PART_ROWS
    whole = model_in(tmp_path / "undisturbed")
    encode(whole, *sources)
    assert features_of(model_in(tmp_path), *sources) == features_of(whole, *sources)


def test_several_models_share_one_pass_and_a_new_one_reads_again(tmp_path: Path) -> None:
    one, two = model_in(tmp_path / "one"), model_in(tmp_path / "two")
    source = shard(3)
    list(encode_here(image_work([source], [one.store, two.store]), [one, two]))
    assert len(source.read) == 3
    assert features_of(one, source) == features_of(two, source)
    three = model_in(tmp_path / "three")
    assert len(image_work([source], [one.store, three.store])) == 1


def test_a_shard_that_the_storage_refuses_ends_no_other(tmp_path: Path) -> None:
    model = model_in(tmp_path)
    bad, good = shard(3, "ab", error=PermissionError("denied")), shard(3, "cd", first=50)
    done = encode(model, bad, good)
    errors = {each.unit: each.error for each in done if each.error}
    assert errors == {"ab": "the storage refuses ab: PermissionError: denied"}
    assert len(features_of(model, good)) == 3
    with pytest.raises(NoResultError, match=r"^the storage refuses ab: PermissionError: denied$"):
        list(FeatureReader(model.store, errors).rows(bad))
    with pytest.raises(NoResultError, match="ab was not encoded; run the command again"):
        list(FeatureReader(model.store, {}).rows(bad))


def test_an_error_while_reading_is_raised_where_the_parts_are_used(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a defect of the reader"):
        encode(model_in(tmp_path), shard(1, error=ValueError("a defect of the reader")))


class Numbers(TestModel):
    """Embeds a text as its number."""

    @staticmethod
    def tokenize(texts: Sequence[str], context_length: int = 2) -> torch.Tensor:
        rows = [[len(text) + 1] * min(len(text), context_length) for text in texts]
        return torch.tensor([[*row, *[0] * context_length][:context_length] for row in rows])

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.float()


def test_texts_are_encoded_once_each_in_units(tmp_path: Path) -> None:
    units = text_units(str(number % (TEXTS_OF_UNIT + 5)) for number in range(2 * TEXTS_OF_UNIT))
    assert [len(unit.texts) for unit in units] == [TEXTS_OF_UNIT, 5]
    model = EncodingModel(
        Encoder(LoadedModel(Numbers(), width_of, Numbers.tokenize), CPU, 3, "fp32"), FeatureStore(str(tmp_path))
    )
    units = text_units(["a", "bbb", "", "a"])
    list(encode_here(text_work(units, [model.store]), [model]))
    assert text_work(units, [model.store]) == []
    texts = FeatureReader(model.store, {}).texts(units)
    assert texts.number_of == {"a": 0, "bbb": 1, "": 2}
    assert np.allclose(texts.embeddings, [[1, 0], [0.5**0.5, 0.5**0.5], [0, 0]])
    assert texts.count_cut(["a", "bbb", "bbb"]) == 2
    assert np.allclose(texts.of(["bbb"]), [[0.5**0.5, 0.5**0.5]])


def test_progress_says_how_much_is_left() -> None:
    progress = EncodingProgress(4)
    progress.add(Done("a", images=10, is_last=False))
    assert progress.line().startswith("encoded 0 of 4 shards; 10 images")
    progress.add(Done("a", images=10))
    assert progress.line().startswith("encoded 1 of 4 shards; 20 images")
    assert " left" in progress.line()
    progress.add(Done("b", error="the storage refuses b"))
    assert progress.errors == {"b": "the storage refuses b"}
