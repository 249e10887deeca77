"""The gate: accept a rewrite for training, or refuse it for a named reason.

All checks are pure functions over text. They run in the order of `Rejection`, and the first check that a rewrite fails
is its reason. Checks are cheap for rewrites that pass: a check first tests a necessary condition of failing, such as a
word that every refusal contains. The checks themselves are in the modules `gate_*`.

Not covered: whether a rewrite is true of the picture or keeps every fact of the caption; invented numbers; refusals,
chat phrases, number words and inflection in other languages than English. `docs/gate.md` has the measurements.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cached_property, partial
from typing import NamedTuple

from laclip_ray.config import GateConfig, RewriteConfig
from laclip_ray.data.tokens import count_tokens, tokenizer_spec
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.judging.examples import Examples
from laclip_ray.rewriting.judging.marks import has_broken_characters, has_markup, is_suspicious
from laclip_ray.rewriting.judging.numbers import lacks_number, numbers_to_keep
from laclip_ray.rewriting.judging.talk import find_talk
from laclip_ray.rewriting.judging.text import (
    MARKUP,
    UNSPACED,
    Cache,
    bases_of,
    content_words_of,
    has_other_script,
    is_unrelated,
    is_wordless,
    loops,
    phrase_limit,
    placeholders_of,
    plain_text,
    recognisable_sentences,
    units_of,
    words_of,
)
from laclip_ray.rewriting.prompting.prompts import INSTRUCTION, SEPARATOR, ExamplePair, prompt_texts

VERSION = 3
"""Part of the gate's fingerprint. Every change of a check's behaviour raises it."""


class Rejection(StrEnum):
    """Why the gate refuses a rewrite."""

    NOTHING_TO_REWRITE = tables.NOTHING_TO_REWRITE
    EMPTY = "empty"
    TRUNCATED = "truncated"
    REFUSAL = "refusal"
    CHAT_PHRASE = "chat_phrase"
    PROMPT_ECHO = "prompt_echo"
    BROKEN_CHARACTERS = "broken_characters"
    MARKUP_LEFT = "markup_left"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    COPY_OF_CAPTION = "copy_of_caption"
    NEAR_COPY = "near_copy"
    COPY_OF_REWRITE = "copy_of_rewrite"
    COPY_OF_EXAMPLE = "copy_of_example"
    FROM_EXAMPLE = "from_example"
    LOOPING = "looping"
    WRONG_SCRIPT = "wrong_script"
    NUMBERS_LOST = "numbers_lost"
    PLACEHOLDERS_CHANGED = "placeholders_changed"
    UNRELATED = "unrelated"


class _Caption(NamedTuple):
    """A caption as rewrites are compared with it."""

    plain: str
    is_ascii: bool
    is_wordless: bool
    content_words: frozenset[str]
    numbers: tuple[frozenset[str], ...]
    """For each number that must be kept, the values that keep it."""
    placeholders: frozenset[str]

    @classmethod
    def of(cls, caption: str) -> "_Caption":
        words = words_of(caption)
        is_ascii = caption.isascii()
        return cls(
            plain=" ".join(words),
            is_ascii=is_ascii,
            is_wordless=is_wordless(caption),
            content_words=content_words_of(words, is_ascii),
            numbers=numbers_to_keep(caption, words),
            placeholders=placeholders_of(caption),
        )


_CAPTIONS = Cache(_Caption.of, size=2**15)
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
        self._example_texts = [
            frozenset(plain_text(text) for pair in head for text in (pair.source, pair.target)) for head in heads
        ]
        self._examples = [Examples(head) for head in heads] if config.drop_from_example else []
        self._echoes = tuple(
            dict.fromkeys(f" {echo} " for text in instructions for echo in recognisable_sentences(text))
        )
        self._count_tokens = count_tokens
        self._tokens_of_word = Cache(self._count_word, size=2**17)
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
        original = _CAPTIONS[caption]
        if original.is_wordless and config.drop_wordless_captions:
            return Rejection.NOTHING_TO_REWRITE
        pieces = text.split()
        if not pieces:
            return Rejection.EMPTY
        if truncated and config.drop_truncated:
            return Rejection.TRUNCATED
        words = words_of(text)
        plain = " ".join(words)
        return self._fault_of_text(text, pieces, words, plain, caption) or self._fault_of_pair(
            text, words, plain, caption, original, head, others
        )

    def _fault_of_text(
        self, text: str, pieces: list[str], words: list[str], plain: str, caption: str
    ) -> Rejection | None:
        """Checks of the text, for faults that the caption does not have too."""
        config = self._config
        if config.drop_chat_phrases and (talk := find_talk(text, words, caption)):
            return Rejection(talk)
        if config.drop_prompt_echo and self._echoes_prompt(text, plain):
            return Rejection.PROMPT_ECHO
        if is_suspicious(text):
            if config.drop_broken_characters and has_broken_characters(text, caption):
                return Rejection.BROKEN_CHARACTERS
            if config.drop_markup and has_markup(text, caption):
                return Rejection.MARKUP_LEFT
        if _is_too_short(text, pieces, words, config):
            return Rejection.TOO_SHORT
        if config.max_context_tokens is not None and self._exceeds(text, pieces, config.max_context_tokens):
            return Rejection.TOO_LONG
        return None

    def _fault_of_pair(
        self,
        text: str,
        words: list[str],
        plain: str,
        caption: str,
        original: _Caption,
        head: int,
        others: Sequence[str],
    ) -> Rejection | None:
        """Checks of the text against the caption, the other rewrites and the prompt's examples."""
        config = self._config
        if config.drop_copies and plain == original.plain:
            return Rejection.COPY_OF_CAPTION
        if config.drop_near_copies and plain != original.plain and _is_near_copy(words, original.plain):
            return Rejection.NEAR_COPY
        if others and config.drop_repeats and any(plain == plain_text(other) for other in others):
            return Rejection.COPY_OF_REWRITE
        if config.drop_prompt_echo and self._example_texts and plain in self._example_texts[head]:
            return Rejection.COPY_OF_EXAMPLE
        both_ascii = original.is_ascii and text.isascii()
        if self._examples and self._is_from_example(text, words, original, head, both_ascii):
            return Rejection.FROM_EXAMPLE
        limit = config.max_repeated_phrases
        if limit and len(words) - len(set(words)) >= self._looping_excess and loops(words, limit):
            return Rejection.LOOPING
        if config.drop_wrong_script and not both_ascii and has_other_script(text, caption):
            return Rejection.WRONG_SCRIPT
        if original.numbers and config.drop_lost_numbers and lacks_number(original.numbers, text, words):
            return Rejection.NUMBERS_LOST
        if (
            config.drop_changed_placeholders
            and (original.placeholders or "<" in text or "[" in text)
            and placeholders_of(text) != original.placeholders
        ):
            return Rejection.PLACEHOLDERS_CHANGED
        if config.min_shared_words and is_unrelated(original.content_words, words, config.min_shared_words, both_ascii):
            return Rejection.UNRELATED
        return None

    def _is_from_example(self, text: str, words: list[str], original: _Caption, head: int, is_ascii: bool) -> bool:
        examples = self._examples[head]
        units = units_of(words) if examples.has_pairs and not is_ascii else bases_of(words)
        if examples.rare.isdisjoint(units):
            return False
        return examples.leaked(text, units, frozenset(units_of(original.plain.split(" "))), original.numbers)

    def _echoes_prompt(self, text: str, plain: str) -> bool:
        if SEPARATOR in text or (("<" in text or "[" in text) and MARKUP.search(text)):
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


def _is_near_copy(words: list[str], caption: str) -> bool:
    """Whether words are a caption's, as plain text, except for articles, inflection and spaces ("do n't", "don't")."""
    return "".join(bases_of(words)) == "".join(bases_of(caption.split(" ")))


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
