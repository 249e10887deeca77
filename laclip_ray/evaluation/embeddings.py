"""Checks of embeddings, and texts as tokens.

A model that diverged gives NaN, and a collapsed model gives one embedding for all inputs. Neither measures anything:
ties and NaN would still rank somewhere, and give a number. Such a data set is refused.
"""

from collections.abc import Callable, Sequence

import torch

from laclip_ray.evaluation.coverage import NoResultError

SAME = 1e-6
"""Largest difference in any dimension between embeddings of unit length that count as equal: rounding of float32."""


_CHECKED_ROWS = 8_192
"""Embeddings checked at a time."""


class SpreadCheck:
    """Checks embeddings of one kind, batch after batch: all are finite, and not all are the same."""

    def __init__(self, kind: str) -> None:
        """`kind` names the inputs in messages: `images`."""
        self._kind = kind
        self._first: torch.Tensor | None = None
        self._count = 0
        self._differs = False

    def add(self, embeddings: torch.Tensor) -> None:
        """Check a batch, [B, D].

        Raises:
            NoResultError: an embedding is infinite or not a number.
        """
        for part in embeddings.split(_CHECKED_ROWS):  # a copy of all would be as large as the embeddings
            self._add(part)

    def _add(self, embeddings: torch.Tensor) -> None:
        if not bool(embeddings.isfinite().all()):
            raise NoResultError(
                f"the model's embeddings of {self._kind} are infinite or not numbers, so its training diverged; "
                "evaluate an earlier checkpoint, or train with a lower learning rate"
            )
        if self._first is None and len(embeddings):
            self._first = embeddings[0]
        self._count += len(embeddings)
        if not self._differs and self._first is not None:
            self._differs = bool(((embeddings - self._first).abs() > SAME).any())

    def finish(self) -> None:
        """Check the embeddings together.

        Raises:
            NoResultError: there are several, and all are the same.
        """
        if self._count > 1 and not self._differs:
            raise NoResultError(
                f"the model gives the same embedding for all {self._count:,} {self._kind}, so its training collapsed; "
                "evaluate an earlier checkpoint"
            )


class TextTokenizer:
    """A model's tokeniser that says which texts it cuts at the context length."""

    def __init__(self, tokenizer: Callable[..., torch.Tensor]) -> None:
        """Take open_clip's tokeniser, which accepts `context_length`."""
        self._tokenizer = tokenizer
        empty = tokenizer([""])[0].tolist()
        self._end = -1 if empty[-1] == empty[-2] else 0
        """The end of a padded row."""
        self._padding = empty[self._end]

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, list[bool]]:
        """The tokens of N texts, int64 [N, L], and which texts are cut."""
        tokens = self._tokenizer(list(texts))
        is_cut = [end != self._padding for end in tokens[:, self._end].tolist()]
        # A text that fills the row may be just as long as the row, or longer.
        if full := [row for row, fills in enumerate(is_cut) if fills]:
            longer = self._tokenizer([texts[row] for row in full], context_length=tokens.shape[1] + 1)
            for row, end in zip(full, longer[:, self._end].tolist(), strict=True):
                is_cut[row] = end != self._padding
        return tokens, is_cut
