"""Check that a rewrite keeps the caption's numbers; part of the gate.

A rewrite may give a number in digits or in an English word of any kind: "three dogs", "a trio of dogs" and "the third
dog" all keep the number of "3 dogs". Not covered: numbers that a rewrite invents.
"""

import re
from collections.abc import Sequence


def _numbered(words: str, start: int = 1, step: int = 1) -> dict[str, int]:
    return {word: step * value for value, word in enumerate(words.split(), start)}


_CARDINALS = _numbered(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
) | _numbered("twenty thirty forty fifty sixty seventy eighty ninety", start=2, step=10)
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_LARGEST = 10**18
"""Bound on the value of a spelled number: repeated "hundred" would make integers of any size."""
_CARDINAL_WORDS = frozenset(_CARDINALS.keys() | _SCALES.keys()) - {"one"}
_OTHER_NUMBER_WORDS = {
    **dict.fromkeys(("pair", "pairs", "couple", "both", "duo", "twin", "twins", "double"), 2),
    **dict.fromkeys(("trio", "triple", "triplets"), 3),
    **dict.fromkeys(("quartet", "quadruple"), 4),
    **{"quintet": 5, "half": 6, "dozens": 12},  # half a dozen
    **_numbered(
        "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
        "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
    ),
    **_numbered("twenties thirties forties fifties sixties seventies eighties nineties", start=2, step=10),
}
"""Words that keep a number of the caption but need not be kept themselves: "a pair of shoes" may become "shoes"."""
_NUMBER_WORDS = {word: str(value) for word, value in (_CARDINALS | _SCALES | _OTHER_NUMBER_WORDS).items()}
_DIGIT = re.compile(r"\d")
_NUMBER_OF_CAPTION = re.compile(
    r"(?<![\w#/.,:-])(\d{1,3}(?:,\d{3})+|\d{1,4})((?:\.\d+)?)(st|nd|rd|th|s)?(?!\w|[-/:.,]\d|[-/.:]?_|/|\.[a-z])"
    r"(?:\s(hundred|thousand|million|billion)\b)?"
)
"""A count, a year, an amount, an ordinal or a decade.

Not matched: digits next to a letter or `_` (`1080p`, `IMG_2034`), in file names (`03.webp`), after `#`, in compounds
(dates, times, scores, ranges, fractions), and ids (five or more digits without a comma).
"""
_NUMBER_OF_REWRITE = re.compile(r"(\d+(?:,\d{3})*)((?:\.\d+)?)(?:\s?(hundred|thousand|million|billion|k|m|bn)\b)?")
_MULTIPLIERS = _SCALES | {"k": 1_000, "m": 1_000_000, "bn": 1_000_000_000}


def numbers_to_keep(caption: str, words: Sequence[str]) -> tuple[frozenset[str], ...]:
    """For each number of a caption that must be kept, the values that keep it.

    One and zero need not be kept: "a dog" is one dog.

    Args:
        caption: the caption.
        words: its words, in lower case and without punctuation.
    """
    if _CARDINAL_WORDS.isdisjoint(words) and not _DIGIT.search(caption):
        return ()
    numbers = []
    for whole, decimals, suffix, scale in _NUMBER_OF_CAPTION.findall(caption.lower()):
        if whole[0] == "0" and not decimals:
            continue  # `001` counts files
        values = {_value(whole, decimals)}
        if scale:
            values.add(_value(whole, decimals, _SCALES[scale]))
        if suffix == "s" and len(whole) == 4:
            values.add(_value(whole[2:], ""))
        if values != {"1"}:
            numbers.append(frozenset(values))
    numbers.extend(frozenset({str(value)}) for value in _spelled_numbers(words) if value > 1)
    return tuple(numbers)


def lacks_number(numbers: Sequence[frozenset[str]], text: str, words: Sequence[str]) -> bool:
    """Whether a text lacks one of the numbers from `numbers_to_keep`, in digits anywhere and as a word of any kind."""
    number_words = _NUMBER_WORDS.keys() & words
    present = {_NUMBER_WORDS[word] for word in number_words}
    if len(number_words) > 1 or not number_words.isdisjoint(_SCALES):
        present.update(map(str, _spelled_numbers(words)))
    if _DIGIT.search(text):
        for whole, decimals, scale in _NUMBER_OF_REWRITE.findall(text.lower()):
            present.add(_value(whole, ""))
            present.add(_value(whole, decimals))
            if scale:
                present.add(_value(whole, decimals, _MULTIPLIERS[scale]))
    return any(present.isdisjoint(values) for values in numbers)


def _value(whole: str, decimals: str, scale: int = 1) -> str:
    """The canonical spelling of a value. Text, because no float holds an id of fifty digits."""
    digits, fraction = whole.replace(",", ""), decimals[1:].rstrip("0")
    shift = len(str(scale)) - 1
    digits, fraction = digits + fraction[:shift].ljust(shift, "0"), fraction[shift:]
    return (digits.lstrip("0") or "0") + (f".{fraction}" if fraction else "")


def _spelled_numbers(words: Sequence[str]) -> list[int]:
    """Values of the spelled numbers: "twenty", "five" is 25; "two", "hundred" is 200.

    The "million" of "5 million" belongs to the digits and is skipped.
    """
    if _CARDINAL_WORDS.isdisjoint(words):
        return []
    values = []
    total = part = 0
    inside = False
    previous = ""
    for word in (*words, ""):
        cardinal, scale = _CARDINALS.get(word), _SCALES.get(word)
        if scale and (inside or not previous.isdecimal()):
            part = min((part or 1) * scale, _LARGEST)
            if scale >= 1_000:
                total, part = min(total + part, _LARGEST), 0
            inside = True
        elif cardinal and (part == 0 or part % 100 == 0 or (part % 10 == 0 and part % 100 >= 20 and cardinal < 10)):
            part += cardinal
            inside = True
        elif inside and word == "and" and (part or total) % 100 == 0:
            continue
        elif inside:
            values.append(total + part)
            total, part = 0, cardinal or 0
            inside = bool(cardinal)
        previous = word
    return values
