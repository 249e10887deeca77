"""The gate: accept a rewrite for training, or refuse it for a named reason.

All checks are pure functions over text. They run in the order of `Rejection`, and the first check that a rewrite fails
is its reason. Checks are cheap for rewrites that pass: a check first tests a necessary condition of failing, such as a
word that every refusal contains. The checks themselves are in `gate_text`, `gate_talk` and `gate_numbers`.

Not covered: whether a rewrite is true of the picture or keeps every fact of the caption; invented numbers; refusals,
chat phrases and number words in other languages than English. `docs/gate.md` has the measurements.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cached_property, partial
from typing import NamedTuple, TypeVar

from laclip_ray.config import GateConfig, RewriteConfig
from laclip_ray.data.tokens import count_tokens, tokenizer_spec
from laclip_ray.rewriting.gate_numbers import lacks_number, numbers_to_keep
from laclip_ray.rewriting.gate_talk import find_talk
from laclip_ray.rewriting.gate_text import (
    MARKUP,
    UNSPACED,
    content_words_of,
    has_other_script,
    is_unrelated,
    loops,
    phrase_limit,
    placeholders_of,
    plain_text,
    recognisable_sentences,
    words_of,
)
from laclip_ray.rewriting.prompts import INSTRUCTION, SEPARATOR, ExamplePair, prompt_texts

VERSION = 2
"""Part of the gate's fingerprint. Every change of a check's behaviour raises it."""

_Value = TypeVar("_Value")


class Rejection(StrEnum):
    """Why the gate refuses a rewrite."""

    EMPTY = "empty"
    TRUNCATED = "truncated"
    REFUSAL = "refusal"
    CHAT_PHRASE = "chat_phrase"
    PROMPT_ECHO = "prompt_echo"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    COPY_OF_CAPTION = "copy_of_caption"
    COPY_OF_REWRITE = "copy_of_rewrite"
    COPY_OF_EXAMPLE = "copy_of_example"
    LOOPING = "looping"
    WRONG_SCRIPT = "wrong_script"
    NUMBERS_LOST = "numbers_lost"
    PLACEHOLDERS_CHANGED = "placeholders_changed"
    UNRELATED = "unrelated"


class _Cache(dict[str, _Value]):
    """Results of a function of a text. A full cache is emptied, which costs less than keeping an order."""

    def __init__(self, function: Callable[[str], _Value], size: int) -> None:
        super().__init__()
        self._function = function
        self._size = size

    def __missing__(self, key: str) -> _Value:
        if len(self) >= self._size:
            self.clear()
        value = self[key] = self._function(key)
        return value


class _Caption(NamedTuple):
    """A caption as rewrites are compared with it."""

    plain: str
    is_ascii: bool
    content_words: frozenset[str]
    numbers: tuple[frozenset[str], ...]
    """For each number that must be kept, the values that keep it."""
    placeholders: frozenset[str]

    @classmethod
    def of(cls, caption: str) -> "_Caption":
        words = words_of(caption)
        return cls(
            plain=" ".join(words),
            is_ascii=caption.isascii(),
            content_words=content_words_of(words),
            numbers=numbers_to_keep(caption, words),
            placeholders=placeholders_of(caption),
        )


_CAPTIONS = _Cache(_Caption.of, size=2**15)
"""The captions of a few shards: each has several draws, and the gates of all prompt sets share it."""


class Gate:
    """Judges the rewrites of one prompt set.

    A verdict is a function of the arguments of `judge`: after construction only caches change.
    """

    def __init__(
        self,
        config: GateConfig,
        heads: Sequence[tuple[ExamplePair, ...]],
        count_tokens: Callable[[str], int],
        instructions: Sequence[str] = (INSTRUCTION,),
    ) -> None:
        """Prepare the texts that rewrites are compared with.

        Args:
            config: the enabled checks and their thresholds.
            heads: the example pairs of each prompt head.
            count_tokens: counts a text's tokens for the CLIP model's text tower, special tokens included.
            instructions: the other texts of the prompt, which a rewrite must not repeat.
        """
        self._config = config
        self._examples = [
            frozenset(plain_text(text) for pair in head for text in (pair.source, pair.target)) for head in heads
        ]
        self._echoes = tuple(
            dict.fromkeys(f" {echo} " for text in instructions for echo in recognisable_sentences(text))
        )
        self._count_tokens = count_tokens
        self._tokens_of_word = _Cache(self._count_word, size=2**17)
        # Every text that loops has at least this many more words than distinct words.
        self._looping_excess = min(config.max_repeated_phrases, 2 * phrase_limit(config.max_repeated_phrases))

    def judge(
        self, text: str, caption: str, truncated: bool, head: int, others: Sequence[str] = ()
    ) -> Rejection | None:
        """Return the reason to refuse a rewrite, or None to accept it.

        Args:
            text: the rewrite.
            caption: the caption that it rewrites.
            truncated: whether the token limit cut it off.
            head: index of the prompt head that it was drawn with.
            others: the other accepted rewrites of this caption in the set.
        """
        config = self._config
        pieces = text.split()
        if not pieces:
            return Rejection.EMPTY
        if truncated and config.drop_truncated:
            return Rejection.TRUNCATED
        words = words_of(text)
        plain = " ".join(words)
        if config.drop_chat_phrases and (talk := find_talk(text, words, caption)):
            return Rejection(talk)
        bracket = "<" in text or "[" in text
        if config.drop_prompt_echo and self._echoes_prompt(text, plain, bracket):
            return Rejection.PROMPT_ECHO
        if _is_too_short(text, pieces, words, config):
            return Rejection.TOO_SHORT
        if config.max_context_tokens is not None and self._exceeds(text, pieces, config.max_context_tokens):
            return Rejection.TOO_LONG

        original = _CAPTIONS[caption]
        if config.drop_copies and plain == original.plain:
            return Rejection.COPY_OF_CAPTION
        if others and config.drop_repeats and any(plain == plain_text(other) for other in others):
            return Rejection.COPY_OF_REWRITE
        if config.drop_prompt_echo and self._examples and plain in self._examples[head]:
            return Rejection.COPY_OF_EXAMPLE
        limit = config.max_repeated_phrases
        if limit and len(words) - len(set(words)) >= self._looping_excess and loops(words, limit):
            return Rejection.LOOPING
        both_ascii = original.is_ascii and text.isascii()
        if config.drop_wrong_script and not both_ascii and has_other_script(text, caption):
            return Rejection.WRONG_SCRIPT
        if original.numbers and config.drop_lost_numbers and lacks_number(original.numbers, text, words):
            return Rejection.NUMBERS_LOST
        if (
            config.drop_changed_placeholders
            and (bracket or original.placeholders)
            and placeholders_of(text) != original.placeholders
        ):
            return Rejection.PLACEHOLDERS_CHANGED
        if config.min_shared_words and is_unrelated(original.content_words, words, config.min_shared_words):
            return Rejection.UNRELATED
        return None

    def _echoes_prompt(self, text: str, plain: str, bracket: bool) -> bool:
        if SEPARATOR in text or (bracket and MARKUP.search(text)):
            return True
        spaced = f" {plain} "
        for echo in self._echoes:  # noqa: SIM110 - runs for every rewrite, and `any` costs more than the search
            if echo in spaced:
                return True
        return False

    def _exceeds(self, text: str, pieces: list[str], limit: int) -> bool:
        # Counting tokens costs more than all other checks, so three cheaper bounds come first.
        # 1. A byte-pair tokeniser gives at most one token per byte, plus two special tokens.
        if len(text) + 2 <= limit and len(text.encode("utf-8", "replace")) + 2 <= limit:
            return False
        # 2. Words are counted once and remembered. CLIP's tokenisers split at spaces, so the words' sum is the count;
        # twice the sum leaves room for other tokenisers. A word without a count has at most its bytes and a space as
        # tokens. This mostly avoids counting words that never appear again.
        tokens = self._tokens_of_word
        bound = sum(
            [2 * tokens[word] if word in tokens else 1 + len(word.encode("utf-8", "replace")) for word in pieces]
        )
        if bound + 2 <= limit:
            return False
        # 3. The same bound with every word counted.
        if self._special_tokens + 2 * sum(map(tokens.__getitem__, pieces)) <= limit:
            return False
        return self._count_tokens(text) > limit

    def _count_word(self, word: str) -> int:
        return self._count_tokens(word) - self._special_tokens

    @cached_property
    def _special_tokens(self) -> int:
        return self._count_tokens("")


def _is_too_short(text: str, pieces: list[str], words: list[str], config: GateConfig) -> bool:
    if config.word_count == "spaces":
        return text.count(" ") + 1 < config.min_words
    return len(words) < config.min_words or (len(pieces) < config.min_words and not UNSPACED.search(text))


def build_gate(rewrite: RewriteConfig, heads: Sequence[tuple[ExamplePair, ...]], clip_model: str) -> Gate:
    """Build the gate that judges the rewrites of one prompt set.

    Args:
        rewrite: the rewriting configuration.
        heads: the example pairs of each of the set's prompt heads (`head_choice.pairs_of`).
        clip_model: name of the CLIP model whose tokeniser counts tokens.
    """
    return Gate(
        rewrite.gate,
        heads,
        partial(count_tokens, tokenizer_spec(clip_model)),
        prompt_texts(rewrite.mode, rewrite.template),
    )
