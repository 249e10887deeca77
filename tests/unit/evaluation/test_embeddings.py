"""Texts that are cut are counted, whatever the tokeniser."""

from collections.abc import Callable, Sequence

import open_clip
import pytest
import torch

from laclip_ray.evaluation.coverage import NoResultError
from laclip_ray.evaluation.embeddings import SpreadCheck, TextTokenizer

LENGTH = 6


def open_clip_tokenize(texts: Sequence[str], context_length: int = LENGTH) -> torch.Tensor:
    tokens: torch.Tensor = open_clip.SimpleTokenizer()(list(texts), context_length)
    return tokens


def pad_left_without_end(texts: Sequence[str], context_length: int = LENGTH) -> torch.Tensor:
    rows = [[2, 3, *([9] * len(text.split()))][:context_length] for text in texts]
    return torch.tensor([[0] * (context_length - len(row)) + row for row in rows])


def pad_left_with_end(texts: Sequence[str], context_length: int = LENGTH) -> torch.Tensor:
    rows = [[9] * min(len(text.split()) + 1, context_length - 1) + [2] for text in texts]
    return torch.tensor([[1] * (context_length - len(row)) + row for row in rows])


@pytest.mark.parametrize("tokenize", [open_clip_tokenize, pad_left_without_end, pad_left_with_end])
def test_texts_over_the_context_length_are_counted(tokenize: Callable[..., torch.Tensor]) -> None:
    tokenizer = TextTokenizer(tokenize)
    texts = ["a", "a b", "a b c", "a b c d", "a b c d e", "a b c d e f", "", "a ! !"]
    tokens, is_cut = tokenizer(texts)
    assert torch.equal(tokens, tokenize(texts))
    assert sum(is_cut) == 2  # four words and two special tokens fit
    assert tokenizer(["a b c d e f g"])[1] == [True]


def test_differences_within_rounding_are_none() -> None:
    check = SpreadCheck("images")
    for noise in (0.0, 1e-8, -1e-8):
        check.add(torch.full((4, 8), 8**-0.5) + noise)
    with pytest.raises(NoResultError, match="same embedding for all 12 images"):
        check.finish()


def test_one_embedding_that_differs_is_enough() -> None:
    check = SpreadCheck("images")
    check.add(torch.full((4, 8), 8**-0.5))
    check.add(torch.eye(8)[:1])
    check.add(torch.full((4, 8), 8**-0.5))
    check.finish()
