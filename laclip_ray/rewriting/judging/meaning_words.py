"""The words of a text as `meaning` compares them; pure functions over text.

A word is in lower case. Words that say nothing visible are left out: function words, and words that fit any picture
("a stunning view of", "is seen standing"). Both lists are English, and were written with captions in mind.

Not covered: words of scripts without spaces, which cannot be told apart here; synonyms and other languages, which are
the encoder's task.
"""

import re
from collections.abc import Iterable

from laclip_ray.rewriting.judging.text import UNSPACED

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)?")
_SPLIT_APOSTROPHE = re.compile(r"\s+(?=(?:'s|'re|'ve|'ll|n't)\b)")
"""Tokenised captions (CC3M's) write "woman 's" and "is n't"."""
_SUFFIXES = ("'s", "ing", "ies", "ied", "ed", "es", "s", "ly", "er", "y", "e")
_DOUBLED = re.compile(r"([bdgmnprt])\1$")
"""Letters that English doubles before an ending ("running"), and hardly elsewhere ("falling")."""
_SHORTEST_STEM_LETTERS = 3
_SHORTEST_PREFIX_LETTERS = 4


def _listed(words: str) -> list[str]:
    return re.findall(r"[\w']+", words)


_NUMBER_WORDS = {
    **{word: str(value) for value, word in enumerate(_listed("two three four five six seven eight nine ten"), 2)},
    **{word: str(10 * value) for value, word in enumerate(_listed("twenty thirty forty fifty"), 2)},
    **{"eleven": "11", "twelve": "12", "dozen": "12", "hundred": "100", "thousand": "1000", "million": "1000000"},
}
_FUNCTION_WORDS = frozenset(
    _listed(
        "a an the of in on at to for from by with and or but nor so as is are was were be been being am this that "
        "these those it its it's he she his her him hers they their them theirs we our us you your i my me mine who "
        "whom whose which what there there's here into onto over under up down out off above below near next beside "
        "beneath behind between through throughout across along around about against among amid toward towards upon "
        "within without during after before while when where than then not no do does did has have had having can "
        "could will would should may might must s also some any each all both every such very just only own more most "
        "other another one ones he's she's they're you're we're i'm i've we've isn't aren't don't doesn't if because "
        "how why too again ever once "
    )
)
_FITS_ANY_PICTURE = frozenset(
    _listed(
        # What a picture is, and how it shows something.
        "image picture photo photograph photographs photos pictures images view views scene scenes shot shots show "
        "shows showing shown feature features featuring featured capture captures captured capturing depict depicts "
        "depicted depicting display displayed displays displaying see seen seeing look looks looking seem seems "
        "appear appears appearing found find visible present foreground background style detail details example kind "
        "type sort "
        # How much there is of it.
        "various many several few multiple lots lot number variety set piece part pair couple group bit plenty array "
        # How it pleases. An evaluation names nothing that one could see.
        "beautiful beautifully beauty stunning gorgeous majestic incredible amazing breathtaking lovely pretty "
        "wonderful magnificent striking impressive spectacular charming charm delightful elegant elegance vibrant "
        "vivid lively cheerful perfect perfectly great good nice fine best distinctive unique special simple classic "
        "exquisite serene peaceful tranquil cozy inviting quiet gentle gently graceful gracefully grand splendid "
        "glorious dramatic memorable remarkable captivating enchanting "
        # Where and how a thing is, without saying more.
        "stand stands standing stood sit sits sitting sat lie lies lying rest rests resting make makes making made "
        "take takes taking taken give gives given come comes coming go goes going get gets hold holds holding place "
        "places placed located set put use used using wear wears wearing include includes including contain contains "
        "filled fill fills surround surrounded surrounding offer offers provide provides bring brings enjoy enjoys "
        "enjoying "
        # Who it may be.
        "person people someone somebody individual man woman really truly quite highly particularly especially well "
        "together thing things way side "
    )
)


def words_of(text: str) -> list[str]:
    """The words of a text in order, in lower case; an apostrophe belongs to its word."""
    joined = _SPLIT_APOSTROPHE.sub("", text.replace("\u2019", "'"))
    return [match.group().lower() for match in _WORD.finditer(joined) if not UNSPACED.search(match.group())]


def content_words(words: Iterable[str]) -> list[str]:
    """The distinct words other than function words, in order."""
    return [word for word in dict.fromkeys(words) if word not in _FUNCTION_WORDS]


def foreign_words(caption: Iterable[str], rewrite: Iterable[str]) -> list[str]:
    """The distinct words of a rewrite that name something, and that the caption has in no inflection.

    Args:
        caption: the words of the caption.
        rewrite: the words of the rewrite.
    """
    stems = {stem(word) for word in caption}
    return [word for word in content_words(rewrite) if word not in _FITS_ANY_PICTURE and not _is_among(word, stems)]


def is_number(word: str) -> bool:
    """Whether a word is a number, in digits or in letters."""
    return word in _NUMBER_WORDS or any(character.isdigit() for character in word)


def stem(word: str) -> str:
    """A word without its commonest English endings; a number word as digits.

    >>> stem("pouring"), stem("running"), stem("ponies"), stem("woman's"), stem("three")
    ('pour', 'run', 'pon', 'woman', '3')
    """
    if word in _NUMBER_WORDS:
        return _NUMBER_WORDS[word]
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM_LETTERS:
            return _DOUBLED.sub(r"\1", word[: -len(suffix)])
    return word


def _is_among(word: str, stems: set[str]) -> bool:
    """Whether a word has one of the stems, or one begins with the other ("construct", "construction")."""
    own = stem(word)
    if own in stems:
        return True
    if is_number(word):
        return False
    return any(
        min(len(own), len(other)) >= _SHORTEST_PREFIX_LETTERS and (own.startswith(other) or other.startswith(own))
        for other in stems
    )
