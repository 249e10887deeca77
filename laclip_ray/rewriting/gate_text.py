"""Compare texts by their words, letters and placeholders; part of the gate.

A word is in lower case and has no punctuation. In scripts without spaces (Chinese, Japanese, Thai ...) each character
is a word.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import eq
from unicodedata import name as character_name
from unicodedata import normalize

_UNSPACED_CHARACTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
UNSPACED = re.compile(f"[{_UNSPACED_CHARACTERS}]")
"""A character of a script without spaces."""
_WORD = re.compile(rf"[{_UNSPACED_CHARACTERS}]|[^\W_{_UNSPACED_CHARACTERS}]+")
_ASCII_PUNCTUATION_TO_SPACE = {code: " " for code in range(128) if not chr(code).isalnum()}

MARKUP = re.compile(r"<\|[\w ]+\|>|\[/?INST\]|<</?SYS>>|</?(?:s|bos|eos|start_of_turn|end_of_turn)>")
"""Markers that chat templates and tokenisers put between turns."""
_SHORTEST_ECHO_WORDS = 4

_LONGEST_PHRASE_WORDS = 8

_MUCH = 0.2
"""A text has much of a script from this share of its letters. It is low because models that know several languages
switch within a sentence, and half a sentence takes far fewer letters in Chinese than in Latin script."""
_HARDLY_ANY = 0.1
"""A caption hardly has a script below this share of its letters."""
_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO"})

_ENTITY = (
    "PERSON|NAME|FIRST_?NAME|LAST_?NAME|LOCATION|LOC|PLACE|CITY|COUNTRY|STATE|ADDRESS|ORG|ORGANI[SZ]ATION|COMPANY|BRAND|"
    "DATE|TIME|YEAR|NUMBER|EVENT|TITLE|EMAIL|PHONE|URL|USER|ID"
)
_PLACEHOLDER = re.compile(rf"<[A-Z][A-Z_]+\d*>|\[(?:{_ENTITY})(?:_?\d+)?\]")
"""Any name in capitals in angle brackets. In square brackets only an entity's name, because shops write `[SOLD]`."""

_STEM_LETTERS = 4
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "and are for from has have her his into its near next not off one out over she some that the their there this "
        "under was were while who with",
    )
)


def words_of(text: str) -> list[str]:
    """Split a text into words."""
    if text.isascii():
        return text.lower().translate(_ASCII_PUNCTUATION_TO_SPACE).split()
    return _WORD.findall(normalize("NFKC", text).casefold())


def plain_text(text: str) -> str:
    """Join the words of a text by spaces. Two texts with the same plain text are copies."""
    return " ".join(words_of(text))


def recognisable_sentences(instruction: str) -> list[str]:
    """The sentences of an instruction, as plain text, that a caption cannot hold by chance.

    Sentences of four words or more count. Without one, the whole instruction counts unless it is a single word.
    """
    sentences = [plain_text(sentence) for sentence in re.split(r"[.!?:](?:\s|$)|\n", instruction)]
    long_sentences = [sentence for sentence in sentences if len(sentence.split()) >= _SHORTEST_ECHO_WORDS]
    return long_sentences or [plain for plain in [plain_text(instruction)] if " " in plain]


def placeholders_of(text: str) -> frozenset[str]:
    """The distinct placeholders of a text, such as `<PERSON>` and `[CITY]`."""
    return frozenset(_PLACEHOLDER.findall(text))


def phrase_limit(word_limit: int) -> int:
    """How often a phrase of several words may repeat in a row, given the limit for a single word: half as often.

    People write "ha ha ha ha" but not "in the park in the park in the park".
    """
    return max(1, word_limit // 2)


def loops(words: Sequence[str], word_limit: int) -> bool:
    """Whether a phrase of one to eight words repeats in a row more often than its limit allows."""
    for length in range(1, min(_LONGEST_PHRASE_WORDS, len(words) // 2) + 1):
        # With k copies in a row, (k - 1) * length words equal the word `length` places before.
        needed = length * (word_limit if length == 1 else phrase_limit(word_limit))
        repeats = list(map(eq, words, words[length:]))
        if sum(repeats) < needed:
            continue
        run = 0
        for repeat in repeats:
            run = run + 1 if repeat else 0
            if run >= needed:
                return True
    return False


def has_other_script(text: str, caption: str) -> bool:
    """Whether a text has much of a script that the caption hardly has. False for a caption without letters."""
    letters, caption_letters = _letters_by_script(text), _letters_by_script(caption)
    much, hardly_any = _MUCH * sum(letters.values()), _HARDLY_ANY * sum(caption_letters.values())
    return bool(caption_letters) and any(
        count >= much and caption_letters.get(script, 0) < hardly_any for script, count in letters.items()
    )


def _letters_by_script(text: str) -> dict[str, int]:
    letters: dict[str, int] = {}
    for character in normalize("NFKC", text):
        if character.isalpha():
            script = _script(character)
            letters[script] = letters.get(script, 0) + 1
    return letters


@lru_cache(maxsize=2**14)
def _script(letter: str) -> str:
    """The script, by the first word of the letter's Unicode name. Chinese and Japanese writing are one script."""
    first_word = character_name(letter, "OTHER").split()[0]
    return "CJK" if first_word in _EAST_ASIAN else first_word


def content_words_of(words: Sequence[str]) -> frozenset[str]:
    """The words of three letters or more, without function words."""
    return frozenset([word for word in words if len(word) > 2]) - _FUNCTION_WORDS


def is_unrelated(caption_content_words: frozenset[str], words: Sequence[str], least: int) -> bool:
    """Whether a rewrite shares fewer than `least` content words with its caption.

    Words are compared by their first four letters, so plurals and tenses are the same word, and so are a few unrelated
    words. A synonym is a different word. A caption without content words has no unrelated rewrite.
    """
    if not caption_content_words or (least == 1 and not caption_content_words.isdisjoint(words)):
        return False
    stems = {_stem(word) for word in content_words_of(words)}
    return len({_stem(word) for word in caption_content_words} & stems) < least


def _stem(word: str) -> str:
    return word.removesuffix("s")[:_STEM_LETTERS]
