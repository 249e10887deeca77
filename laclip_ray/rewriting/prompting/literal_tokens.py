"""Encode prompts whose caption spells out a control token, such as `</s>` or `<|im_end|>`.

A tokenizer replaces such a text by the control token's id, and the model then sees the caption, its turn or the whole
document end. Here the caption's text is cut inside each such text, and the pieces are encoded one by one.

Guarantees: no control token of the tokenizer comes from the caption; the ones of the prompt's fixed parts stay. Prompts
with ordinary captions are encoded as the engine does it.

Control tokens are the tokenizer's special tokens and its other added tokens (`<think>`), except added words, characters
and white space, which belong to the vocabulary of ordinary text.

Not covered: words that a closed vocabulary lacks; they stay unknown.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

from laclip_ray.config import PromptMode
from laclip_ray.rewriting.prompting.prompts import Prompt

_ANCHORS = ("\n", ".", "a", "0")
"""A piece is encoded behind one of them: alone, it would get the space that many tokenizers put before a text."""


class PromptEncoder:
    """Encodes prompts for an engine, with the engine's own tokenizer."""

    def __init__(self, tokenizer: Any, mode: PromptMode) -> None:
        """Find the control tokens.

        Args:
            tokenizer: as transformers has it. No other thread may use it.
            mode: a chat template writes the special tokens itself; for a completion the tokenizer adds them.
        """
        self._tokenizer = tokenizer
        self._is_chat = mode == "chat"
        texts, normalized = _control_texts(tokenizer)
        self._longest = max(map(len, texts), default=0)
        self._control = _any_of(texts)
        self._normalize = _normalizer(tokenizer)
        self._normalized_control = None
        if self._normalize is not None:
            self._normalized_control = _any_of({self._normalize(text) for text in normalized} - {""})
        self._first, self._last = ([], []) if self._is_chat else _outer_tokens(self._encode)

    def encode(self, prompt: Prompt) -> str | list[int]:
        """The prompt as an engine takes it: text that its tokenizer encodes right, or token ids."""
        cuts = self._cuts(prompt)
        if cuts:
            return self._encode_pieces(prompt, cuts)
        return self._encode(prompt) if self._is_chat else str(prompt)

    def _encode(self, text: str, special: bool = False) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=special))

    def _cuts(self, prompt: Prompt) -> list[int]:
        """The places in the prompt where it must be cut; empty for an ordinary caption."""
        start, end = len(prompt.before), len(prompt.before) + len(prompt.caption)
        cuts: list[int] = []
        if self._control is not None:
            # Fixed parts and caption together may spell a token, too.
            position, stop = max(0, start - self._longest + 1), end + self._longest - 1
            while (match := self._control.search(prompt, position, stop)) and match.start() < end:
                position = match.start() + 1
                cut = max(position, start)
                if match.end() > start and cut not in cuts[-1:]:
                    cuts.append(cut)
        if self._normalize is not None and self._normalized_control is not None:
            parts = [prompt[left:right] for left, right in pairwise([start, *cuts, end])]
            if any(self._normalized_control.search(self._normalize(part)) for part in parts):
                return [*range(start, end + 1)]  # which characters spell the token is not known
        return cuts

    def _encode_pieces(self, prompt: Prompt, cuts: Iterable[int]) -> list[int]:
        before, *pieces = _pieces(prompt, cuts)
        ids = [*self._first, *self._encode(before)]
        for piece in pieces:
            ids += self._continue(piece)
        return ids + self._last

    def _continue(self, piece: str) -> list[int]:
        """Encode a piece that follows other text."""
        for anchor in _ANCHORS:
            alone, together = self._encode(anchor), self._encode(anchor + piece)
            if alone and together[: len(alone)] == alone:
                return together[len(alone) :]
        return self._encode(piece)


def _control_texts(tokenizer: Any) -> tuple[set[str], set[str]]:
    """The texts of all control tokens, and of the ones that are looked for in normalised text."""
    texts = {str(token) for token in tokenizer.all_special_tokens}
    normalized = set()
    try:
        added = tokenizer.added_tokens_decoder.values()
    except (AttributeError, NotImplementedError):  # mistral_common's encode text as text
        added = ()
    for token in added:
        if token.special or _is_markup(token.content):
            texts.add(token.content)
            if token.normalized:
                normalized.add(token.content)
    # A single character cannot be cut.
    return {text for text in texts if len(text) > 1}, {text for text in normalized if len(text) > 1}


def _is_markup(text: str) -> bool:
    """Whether an added token's text is no word, character or white space of ordinary text."""
    return len(text) > 1 and re.search(r"[^\w\s]|_", text) is not None


def _normalizer(tokenizer: Any) -> Callable[[str], str] | None:
    """What the tokenizer does to a text before it looks for normalised tokens; None: nothing."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if (normalizer := getattr(backend, "normalizer", None)) is not None:
        return normalizer.normalize_str  # type: ignore[no-any-return]
    return str.lower if getattr(tokenizer, "do_lower_case", False) else None


def _any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    """A pattern that finds each of the texts, the longest one first."""
    ordered = sorted(texts, key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _outer_tokens(encode: Callable[[str, bool], list[int]]) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before and after a text."""
    plain, whole = encode("a", False), encode("a", True)
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def _pieces(text: str, cuts: Iterable[int]) -> Iterator[str]:
    start = 0
    for cut in cuts:
        yield text[start:cut]
        start = cut
    yield text[start:]
