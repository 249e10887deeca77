"""Texts and their embeddings: each text has its own row, whether or not the rows had to be copied."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.evaluation.features.reading import TextFeatures
from laclip_ray.evaluation.pairs import embed_unique

KNOWN = ["a", "b", "B", "c", "d"]
"""The second and the third have the same tokens."""
FEATURES = TextFeatures(
    {text: number for number, text in enumerate(KNOWN)},
    np.eye(len(KNOWN), dtype=np.float32)[[0, 1, 1, 2, 3]],
    [text.lower().encode() for text in KNOWN],
    np.zeros(len(KNOWN), bool),
)
DIFFERENT = TextFeatures({"a": 0, "b": 1, "c": 2}, np.eye(3, dtype=np.float32), [b"a", b"b", b"c"], np.zeros(3, bool))


@given(texts=st.lists(st.sampled_from(KNOWN), min_size=1))
def test_each_text_has_the_embedding_of_its_tokens_once(texts: list[str]) -> None:
    embeddings, places = embed_unique(texts, FEATURES)
    assert np.array_equal(embeddings[places].numpy(), FEATURES.of(texts))
    assert len(embeddings) == len({text.lower() for text in texts})


@given(texts=st.permutations(["a", "b", "c", "c"]))
def test_texts_that_use_every_row_share_the_features_memory(texts: list[str]) -> None:
    embeddings, places = embed_unique(texts, DIFFERENT)
    assert np.array_equal(embeddings[places].numpy(), DIFFERENT.of(texts))
    assert np.shares_memory(embeddings.numpy(), DIFFERENT.embeddings)
