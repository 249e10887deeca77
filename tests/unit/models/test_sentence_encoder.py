"""An encoder that cannot score rewrites is refused when it is loaded."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from laclip_ray.errors import UserError
from laclip_ray.models.sentence_encoder import SentenceEncoder


def save_encoder(directory: Path, value: float) -> str:
    """Save a small real encoder, all of whose word vectors hold one number."""
    vocabulary = {"[UNK]": 0, "a": 1, "picture": 2}
    weights = np.full((len(vocabulary), 4), value, np.float32)
    embedding = StaticEmbedding(Tokenizer(WordLevel(vocabulary, "[UNK]")), embedding_weights=weights)
    SentenceTransformer(modules=[embedding]).save(str(directory))
    return str(directory)


def test_vectors_have_unit_length(tmp_path: Path) -> None:
    vectors = SentenceEncoder(save_encoder(tmp_path, 3.0), None, 2, "a").encode(["a picture", "a", "dog"])
    assert vectors == pytest.approx(np.full((3, 4), 0.5))


def test_an_encoder_without_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^a\.model: '.*' gives vectors that are not numbers; .*another"):
        SentenceEncoder(save_encoder(tmp_path, float("nan")), None, 2, "a")


def test_a_directory_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[{}]")
    with pytest.raises(UserError, match=rf"^a\.model: '{tmp_path}' cannot be loaded as a sentence encoder: \S"):
        SentenceEncoder(str(tmp_path), None, 2, "a")
