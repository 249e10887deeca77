"""Compare texts by their words, letters and placeholders; part of the gate.

A word is in lower case and has no punctuation. In scripts without spaces (Chinese, Japanese, Thai ...) each character
is a word, and two texts are compared by their pairs of characters.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import eq
from typing import TypeVar
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
_ENDINGS = ("ing", "ed", "es", "s")
_PLURALS = {"men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot"}
_ARTICLES = frozenset({"a", "an", "the", "s", *"\u7684\u4e86\u7740\u8457\u4e4b"})
"""Articles, the rest of "the dog 's", and Chinese particles."""
_FUNCTION_CHARACTERS = re.compile(
    "[\u3040-\u309f\u7684\u4e86\u7740\u8457\u4e4b\u5728\u4e00\u662f\u548c\u8207\u4e0e\u53ca\u6709\u4e2a\u500b\u53ea\u96bb"
    "\u4e0a\u4e0b\u91cc\u88e1\u4e2d\u8fd9\u9019\u90a3\u5176\u4ed6\u5979\u5b83\u4eec\u5011]"
)
"""Hiragana, and Chinese characters such as "a", "in", "and": a pair with one of them says little."""

_PICTURE_FILE = r"\.(?:jpe?g|png|gif|webp|bmp|tiff?|heic|svg)"
_FILE_NAME = re.compile(
    rf"(?:img|dsc[nf]?|pict?|pxl|mvi|gopr|p|(?=[a-f-]*\d)[\da-f-]{{8,}})?[\W\d_]*(?:{_PICTURE_FILE})?"
    rf"|(?:image|photo|picture|screenshot|untitled|unnamed|download|file|[\da-f-]*\d[\da-f-]*)[\W\d_]*{_PICTURE_FILE}",
    re.IGNORECASE,
)
"""Names that cameras and programs give: letters of a list, or the digits of a hash."""
_LETTERS = re.compile(r"[^\W\d_](?:[^\W\d_]|[\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff\u0e31-\u0e4e])")
"""Two letters, or a letter with a sign."""

_Value = TypeVar("_Value")


class Cache(dict[str, _Value]):
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


def bases_of(words: Sequence[str]) -> list[str]:
    """The words in their base form (`base_of`), in order."""
    return list(map(_BASES.__getitem__, words))


def base_of(word: str) -> str:
    """A word without its English inflection; empty for an article.

    The form is not always a word ("pos" for "pose", "poses", "posed", "posing"), and a few unrelated words share one.
    """
    if word in _ARTICLES:
        return ""
    word = _PLURALS.get(word, word)
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            word = word[: -len(ending)]
            break
    if len(word) > 2 and word[-1] in "ey":
        word = word[:-1] + ("i" if word[-1] == "y" else "")
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


_BASES = Cache(base_of, size=2**17)


def _says_much(word: str) -> bool:
    return UNSPACED.fullmatch(word) is not None and not _FUNCTION_CHARACTERS.match(word)


_SAYING_MUCH = Cache(_says_much, size=2**17)


def character_pairs(words: Sequence[str]) -> list[str]:
    """The pairs of neighbours in scripts without spaces, without pairs that say little."""
    flags = list(map(_SAYING_MUCH.__getitem__, words))
    return [
        first + second
        for first, second, much, more in zip(words, words[1:], flags, flags[1:], strict=False)
        if much and more
    ]


def is_wordless(caption: str) -> bool:
    """Whether a caption has no word: only signs, digits or single letters, or the name of a file that names nothing."""
    if not caption.isascii() and UNSPACED.search(caption):
        return False
    return _LETTERS.search(caption) is None or _FILE_NAME.fullmatch(caption.strip()) is not None


def units_of(words: Sequence[str]) -> list[str]:
    """The words in their base form, and the pairs of characters in scripts without spaces."""
    return [*bases_of(words), *character_pairs(words)]


def content_words_of(words: Sequence[str], is_ascii: bool = True) -> frozenset[str]:
    """The words of three letters or more, without function words, and in scripts without spaces the pairs."""
    content = frozenset([word for word in words if len(word) > 2]) - _FUNCTION_WORDS
    return content if is_ascii else content.union(character_pairs(words))


def is_unrelated(caption_content_words: frozenset[str], words: Sequence[str], least: int, is_ascii: bool) -> bool:
    """Whether a rewrite shares fewer than `least` content words with its caption.

    Words are compared by their first four letters, so plurals and tenses are the same word, and so are a few unrelated
    words. A synonym is a different word. A caption without content words has no unrelated rewrite.
    """
    if not caption_content_words or (least == 1 and not caption_content_words.isdisjoint(words)):
        return False
    stems = {_stem(word) for word in content_words_of(words, is_ascii)}
    return len({_stem(word) for word in caption_content_words} & stems) < least


def _stem(word: str) -> str:
    return word.removesuffix("s")[:_STEM_LETTERS]
