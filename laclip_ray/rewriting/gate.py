"""The gate: which rewrites may be shown in training, and for every other one a named reason.

Pure functions over text. A rewrite is checked in the order of `Rejection`; the first check it fails is its reason.
Each check is cheap for a rewrite that passes: first a necessary condition of failing, such as a word that every refusal
has, and only then the check itself.

Not covered: whether a rewrite is *true* of the picture or keeps the caption's every fact; numbers that were invented;
refusals, assistant's talk and number words in other languages than English. `docs/gate.md` has what was measured.
"""

import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cached_property, lru_cache, partial
from operator import eq
from typing import NamedTuple, TypeVar
from unicodedata import name as character_name
from unicodedata import normalize

from laclip_ray.config import GateConfig, RewriteConfig
from laclip_ray.data.tokens import count_tokens, tokenizer_spec
from laclip_ray.rewriting.prompts import INSTRUCTION, SEPARATOR, ExamplePair, PromptSet, head_pairs, prompt_texts

VERSION = 2
"""Part of the gate's fingerprint; raised with every change of what a check does."""

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


class Gate:
    """Judges the rewrites of one prompt set.

    Nothing but caches changes after it is made: a verdict is a function of `judge`'s arguments.
    """

    def __init__(
        self,
        config: GateConfig,
        heads: Sequence[tuple[ExamplePair, ...]],
        count_tokens: Callable[[str], int],
        instructions: Sequence[str] = (INSTRUCTION,),
    ) -> None:
        """Prepare what rewrites are compared with.

        Args:
            config: which checks are on, and their thresholds.
            heads: the example pairs of each prompt head.
            count_tokens: the tokens of a text for the CLIP model's text tower, special tokens included.
            instructions: what else the prompt says, which a rewrite must not repeat.
        """
        self._config = config
        self._examples = [
            frozenset(_plain(text) for pair in head for text in (pair.source, pair.target)) for head in heads
        ]
        self._echoes = tuple(dict.fromkeys(f" {echo} " for text in instructions for echo in _sentences(text)))
        self._count_tokens = count_tokens
        self._tokens_of_word = _Cache(self._count_word, size=2**17)
        # So many words more than different words has every text that loops.
        self._looping_excess = min(config.max_repeated_phrases, 2 * _phrase_limit(config.max_repeated_phrases))

    def judge(
        self, text: str, caption: str, truncated: bool, head: int, others: Sequence[str] = ()
    ) -> Rejection | None:
        """The reason to refuse a rewrite, or None to accept it.

        Args:
            text: the rewrite.
            caption: what it rewrites.
            truncated: whether the token limit cut it off.
            head: which of the prompt heads it was written after.
            others: the accepted other rewrites of this caption in the set.
        """
        config = self._config
        pieces = text.split()
        if not pieces:
            return Rejection.EMPTY
        if truncated and config.drop_truncated:
            return Rejection.TRUNCATED
        words = _words(text)
        plain = " ".join(words)
        if config.drop_chat_phrases and (":" in text or "(" in text or not _TALK_WORDS.isdisjoint(words)):
            found = _talk(text, caption)
            if found is not None:
                return found
        bracket = "<" in text or "[" in text
        if config.drop_prompt_echo and (
            SEPARATOR in text or (bracket and _MARKUP.search(text)) or self._repeats_instruction(plain)
        ):
            return Rejection.PROMPT_ECHO
        if len(words) < config.min_words or (len(pieces) < config.min_words and not _UNSPACED.search(text)):
            return Rejection.TOO_SHORT
        if config.max_context_tokens is not None and self._exceeds(text, pieces, config.max_context_tokens):
            return Rejection.TOO_LONG

        source = _CAPTIONS[caption]
        if config.drop_copies and plain == source.plain:
            return Rejection.COPY_OF_CAPTION
        if others and config.drop_repeats and any(plain == _plain(other) for other in others):
            return Rejection.COPY_OF_REWRITE
        if config.drop_prompt_echo and self._examples and plain in self._examples[head]:
            return Rejection.COPY_OF_EXAMPLE
        if (
            config.max_repeated_phrases
            and len(words) - len(set(words)) >= self._looping_excess
            and _loops(words, config.max_repeated_phrases)
        ):
            return Rejection.LOOPING
        if (
            config.drop_wrong_script
            and not (source.is_ascii and text.isascii())
            and _is_other_script(text, _letters_by_script(caption))
        ):
            return Rejection.WRONG_SCRIPT
        if source.numbers and config.drop_lost_numbers and _lacks_number(source.numbers, text, words):
            return Rejection.NUMBERS_LOST
        if (
            config.drop_changed_placeholders
            and (bracket or source.placeholders)
            and frozenset(_PLACEHOLDER.findall(text)) != source.placeholders
        ):
            return Rejection.PLACEHOLDERS_CHANGED
        if config.min_shared_words and _is_unrelated(source.content_words, words, config.min_shared_words):
            return Rejection.UNRELATED
        return None

    def _repeats_instruction(self, plain: str) -> bool:
        spaced = f" {plain} "
        for echo in self._echoes:  # noqa: SIM110 - on every rewrite's way, and `any` costs more than the search
            if echo in spaced:
                return True
        return False

    def _exceeds(self, text: str, pieces: list[str], limit: int) -> bool:
        # Counting is the dearest of all, and most texts need none. A byte-pair tokeniser gives at most one token a byte
        # and two special ones. Beyond that, words are counted once and remembered: CLIP's tokenisers split at spaces,
        # so that their sum is the count; twice the sum leaves room for others. A word that was not counted yet has at
        # most its bytes and a space, which mostly saves counting what is never seen again. Only what is near the limit
        # is left.
        if len(text) + 2 <= limit and len(text.encode("utf-8", "replace")) + 2 <= limit:
            return False
        known = self._tokens_of_word
        bound = sum([2 * known[word] if word in known else 1 + len(word.encode("utf-8", "replace")) for word in pieces])
        if bound + 2 <= limit:
            return False
        if self._special_tokens + 2 * sum(map(known.__getitem__, pieces)) <= limit:
            return False
        return self._count_tokens(text) > limit

    def _count_word(self, word: str) -> int:
        return self._count_tokens(word) - self._special_tokens

    @cached_property
    def _special_tokens(self) -> int:
        return self._count_tokens("")


class _Caption(NamedTuple):
    """What rewrites of a caption are compared with; made once for its several draws."""

    plain: str
    is_ascii: bool
    content_words: frozenset[str]
    numbers: tuple[frozenset[str], ...]
    """For each number that must be kept, the values that keep it."""
    placeholders: frozenset[str]

    @classmethod
    def of(cls, caption: str) -> "_Caption":
        words = _words(caption)
        has_numbers = not _CARDINAL_WORDS.isdisjoint(words) or _DIGIT.search(caption)
        return cls(
            plain=" ".join(words),
            is_ascii=caption.isascii(),
            content_words=frozenset([word for word in words if len(word) > 2]) - _FUNCTION_WORDS,
            numbers=_numbers_to_keep(caption, words) if has_numbers else (),
            placeholders=frozenset(_PLACEHOLDER.findall(caption)) if "<" in caption or "[" in caption else frozenset(),
        )


class _Cache(dict[str, _Value]):
    """Results of a function of a text; forgets everything when full, which costs less than keeping an order."""

    def __init__(self, function: Callable[[str], _Value], size: int) -> None:
        super().__init__()
        self._function = function
        self._size = size

    def __missing__(self, key: str) -> _Value:
        if len(self) >= self._size:
            self.clear()
        value = self[key] = self._function(key)
        return value


_CAPTIONS = _Cache(_Caption.of, size=2**15)
"""The captions of a few shards: the gates of all prompt sets judge rewrites of the same ones, one set after another."""


# Words. A character of a script that is written without spaces is a word of its own.

_UNSPACED_CHARACTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_UNSPACED = re.compile(f"[{_UNSPACED_CHARACTERS}]")
_WORD = re.compile(rf"[{_UNSPACED_CHARACTERS}]|[^\W_{_UNSPACED_CHARACTERS}]+")
_ASCII_PUNCTUATION_TO_SPACE = {code: " " for code in range(128) if not chr(code).isalnum()}


def _words(text: str) -> list[str]:
    """The words, without case and punctuation: what two texts are compared by."""
    if text.isascii():
        return text.lower().translate(_ASCII_PUNCTUATION_TO_SPACE).split()
    return _WORD.findall(normalize("NFKC", text).casefold())


def _plain(text: str) -> str:
    return " ".join(_words(text))


# An echo of the prompt.

_MARKUP = re.compile(r"<\|[\w ]+\|>|\[/?INST\]|<</?SYS>>|</?(?:s|bos|eos|start_of_turn|end_of_turn)>")
"""What chat templates and tokenisers put between the turns."""
_SHORTEST_ECHO_WORDS = 4


def _sentences(instruction: str) -> list[str]:
    """The instruction's sentences that are long enough to be no caption's words; else all of it, if it is no word."""
    sentences = [_plain(sentence) for sentence in re.split(r"[.!?:](?:\s|$)|\n", instruction)]
    long = [sentence for sentence in sentences if len(sentence.split()) >= _SHORTEST_ECHO_WORDS]
    return long or [plain for plain in [_plain(instruction)] if " " in plain]


# Refusals, and an assistant's talk beside the rewrite. Matched on lower case with straight apostrophes.


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


_VERSION = (
    r"(?:rewrit\w*|rewrote|rephras\w*|reword\w*|paraphras\w*|captions?|versions?|variations?|revisions?|revised"
    r"|alternatives?)"
)
_FEELINGS = (
    "believe|wait|stop|get|resist|imagine|live|stand|sleep|remember|decide|forget|help but|even|be|take|go|let|miss|say"
    "|tell|think|find|eat|lie|fit|handle|seem"
)
_REFUSAL = _any_of(
    r"(?:i'?m|i am|we(?:'| a)re) (?:(?:so|very|really|truly|deeply) )?(?:sorry|afraid|unable|(?:just |only )?an? ai)\b",
    r"(?:i'?m|i am|we(?:'| a)re) not (?:able|allowed|permitted|comfortable|going to)\b",
    r"sorry\b",
    r"(?:my |please accept my )?(?:sincere(?:st)? |deepest )?apologies\b",
    r"(?:i|we) (?:do )?(?:apologi[sz]e|regret|(?:must|have to) (?:politely )?decline|decline|refuse)\b",
    rf"(?:i|we) (?:can ?not|can't|could not|couldn't|will not|won't) (?!(?:{_FEELINGS})\b)",
    r"(?:i|we) (?:do|did)(?: not|n't) (?:have|see|receive|feel comfortable|understand)\b"
    rf".*\b(?:{_VERSION}|image|access|ability|information|context|request|writing|creating)\b",
    r"(?:i|we) (?:would )?need (?:(?:a|some) )?(?:bit )?more (?:context|information|detail)",
    r"unfortunately,? (?:i|we|this request|your request|it is|it isn't|there)\b",
    r"(?:this|that|the|your) (?:request|prompt|caption) "
    r"(?:can(?:'t| ?not)|violates|goes|is (?:against|in|not|un)|contains|appears|seems|does)",
    r"it(?:'s| is| would be) (?:not possible|not appropriate|impossible|inappropriate|against my)\b"
    rf".*\b(?:{_VERSION}|image|request|guidelines|polic\w+)\b",
    r"(?:there is |there's )?no (?:caption|rewrite|image|content|text) "
    r"(?:was |is |has been )?(?:provided|given|available|possible|supplied)",
    r"please (?:provide|share|give me|supply|send|clarify)\b",
    r"(?:could|can|would) you (?:please )?(?:provide|share|clarify|give)\b",
)
_REFUSAL_ANYWHERE = _any_of(
    r"\bas an? (?:\w+ ){0,2}(?:ai|artificial intelligence|language model|chatbot)\b",
    r"\bi (?:can ?not|can't) (?:help|assist|comply|fulfil+|provide|rewrite|rephrase|generate|create)\b(?! but)",
)
_INTERJECTION = "(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|no problem|understood|got it)"
_LABEL_ADJECTIVE = (
    f"(?:new|improved|updated|edited|final|alternate|suggested|possible|image|photo|concise|short|better|{_VERSION})"
)
_LABEL = (
    f"(?:{_VERSION}|description|output|answer|response|result|assistant|ai|target|input|source|user|original)"
    r"(?: text| caption| image)?(?: #?\d+)?"
)
_CHAT = _any_of(
    rf"{_INTERJECTION} ?[,!.:;–—-]",
    rf"(?:{_INTERJECTION}|great|yes) ?[,!.]? (?:here|i|i'd|i'll|let me)\b",
    rf"here(?:'s| is| are| was)\b(?:[^:]{{0,60}}:|[^.]{{0,60}}\b{_VERSION}\b)",
    r"here (?:you go|you are|it is|goes)\b",
    rf"(?:(?:the|my|your|an?|one) )?(?:{_LABEL_ADJECTIVE} ){{0,3}}{_LABEL} ?(?::|reads\b|(?:is|would be|could be):)",
    r"i(?:'d|'ll|'ve| would| will| have| can| could)? "
    r"(?:be (?:happy|glad) to|gladly|love to help|suggest|help you|rewr\w+|rephras\w+|reword\w*|paraphras\w+)\b",
    r"let me (?:rewr\w+|rephras\w+|help|try|give|provide)\b",
    r"let's (?:rewr\w+|rephras\w+)\b",
    r"(?:thank you|thanks) for (?:asking|sharing|providing|the|your)\b",
    r"you(?:'re| are) welcome\b",
    r"as (?:you )?requested\b",
    r"(?:as )?per your request\b",
    r"to (?:rewrite|rephrase|reword|paraphrase)\b",
)
_CHAT_ANYWHERE = _any_of(
    r"\blet me know\b",
    r"\bhope (?:this|that|it) helps\b",
    r"\bfeel free to (?:ask|let|reach|adjust|modify|change|use)\b",
    r"\b(?:is there|if there's|if there is) anything else\b",
    r"\bhow (?:can|may) i (?:help|assist)\b",
    r"\b(?:would you like|do you want) (?:me|another|to see)\b",
    r"\bif you (?:need|want|have|would like|'d like) (?:any|more|me|another)\b",
    r"\byou(?:'d| would) like (?:me|any|another|more)\b",
    r"\b(?:can|could|may|might|should) (?:also )?be (?:rewritten|rephrased|reworded|paraphrased)\b",
    r"\b(?:the|this|your|original) caption (?:as|is|was|has|in|to|has been|you)\b",
    r"\b(?:happy|glad) to help\b",
    r"\bnote that (?:i|the original|this (?:caption|version))\b",
    r"\banother (?:way|option|version) (?:to|of the caption|could|would|is|might)\b",
    r"[(\[] ?(?:please )?note\b",
    r"\bnote:",
    rf"\( ?(?:or|alternatively|{_VERSION})\b",
    r"\(\d+ (?:words|characters)\)",
)
_TALK_WORDS = frozenset(
    re.findall(
        r"\w+",
        "i we you sorry apologies ai language artificial chatbot unfortunately request requested prompt "
        "possible impossible appropriate inappropriate guidelines policy policies provided given available "
        "supplied please clarify sure certainly course absolutely okay ok alright problem understood got "
        "here let thank thanks welcome know hope feel anything help note another alternatively output answer "
        "response result reads reword reworded rewording rewrite rewrites rewritten rewriting rewrote "
        "rephrase rephrased rephrases rephrasing paraphrase paraphrased paraphrasing caption captions "
        "version versions variation variations revision revisions revised alternative alternatives",
    )
)
"""Every phrase above has one of these words, or a colon, or a bracket: most texts have none and need no second look."""
_OPENING = re.compile(r"[\s\"'“”‘*_#>(\[-]*")
_SPACED_CLITIC = re.compile(r"\s+(?=(?:n't|'(?:s|m|re|d|ll|ve))\b)")


def _talk(text: str, caption: str) -> Rejection | None:
    """A refusal or a chat phrase, unless the caption has one too: signs say sorry."""
    folded = _fold_talk(text)
    start = _end_of_opening(folded)
    if _REFUSAL.match(folded, start) or _REFUSAL_ANYWHERE.search(folded):
        original = _fold_talk(caption)
        if not (_REFUSAL.search(original) or _REFUSAL_ANYWHERE.search(original)):
            return Rejection.REFUSAL
    if _CHAT.match(folded, start) or _CHAT_ANYWHERE.search(folded):
        original = _fold_talk(caption)
        if not (_CHAT.search(original) or _CHAT_ANYWHERE.search(original)):
            return Rejection.CHAT_PHRASE
    return None


def _fold_talk(text: str) -> str:
    # Web captions come with their words split ("ca n't"), and models write curly apostrophes.
    straight = text.lower().replace("’", "'").replace("ca n't", "can't")
    return _SPACED_CLITIC.sub("", " ".join(straight.split()))


def _end_of_opening(text: str) -> int:
    opening = _OPENING.match(text)
    return opening.end() if opening else 0


# Loops.

_LONGEST_PHRASE_WORDS = 8


def _phrase_limit(limit: int) -> int:
    """How often a phrase of several words may stand in a row: half as often as a word.

    People write "ha ha ha ha"; nobody writes "in the park in the park in the park".
    """
    return max(1, limit // 2)


def _loops(words: Sequence[str], limit: int) -> bool:
    """Whether some one to eight words stand in a row more often than they may."""
    for length in range(1, min(_LONGEST_PHRASE_WORDS, len(words) // 2) + 1):
        # A phrase that stands k times in a row makes (k - 1) * length words equal to the one `length` before.
        needed = length * (limit if length == 1 else _phrase_limit(limit))
        repeats = list(map(eq, words, words[length:]))
        if sum(repeats) < needed:
            continue
        run = 0
        for repeat in repeats:
            run = run + 1 if repeat else 0
            if run >= needed:
                return True
    return False


# Scripts.

_MUCH = 0.2
"""Of a text's letters. Models that know several languages change in the middle of a sentence; Chinese says in few
characters what Latin letters say in many, so that half a sentence is far less than half of the letters."""
_HARDLY_ANY = 0.1
"""Of the caption's letters."""
_EAST_ASIAN = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO"})


@lru_cache(maxsize=2**14)
def _script(letter: str) -> str:
    """The script by the first word of the character's name; Chinese and Japanese writing are one."""
    first = character_name(letter, "OTHER").split()[0]
    return "CJK" if first in _EAST_ASIAN else first


def _letters_by_script(text: str) -> dict[str, int]:
    letters: dict[str, int] = {}
    for character in normalize("NFKC", text):
        if character.isalpha():
            script = _script(character)
            letters[script] = letters.get(script, 0) + 1
    return letters


def _is_other_script(text: str, caption_letters: dict[str, int]) -> bool:
    """Whether much of the text is in a script that the caption hardly has. A caption without letters says nothing."""
    letters = _letters_by_script(text)
    much, hardly = _MUCH * sum(letters.values()), _HARDLY_ANY * sum(caption_letters.values())
    return bool(caption_letters) and any(
        count >= much and caption_letters.get(script, 0) < hardly for script, count in letters.items()
    )


# Numbers.


def _numbered(words: str, start: int = 1, step: int = 1) -> dict[str, int]:
    return {word: step * value for value, word in enumerate(words.split(), start)}


_CARDINALS = _numbered(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
) | _numbered("twenty thirty forty fifty sixty seventy eighty ninety", start=2, step=10)
_SCALES = {"dozen": 12, "hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_LARGEST = 10**18
"""No text makes a number that is dear to hold."""
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
"""Words that keep a number of the caption, but whose own loss is not one: "a pair of shoes" may become "shoes"."""

_NUMBER_WORDS = {word: str(value) for word, value in (_CARDINALS | _SCALES | _OTHER_NUMBER_WORDS).items()}
_DIGIT = re.compile(r"\d")
_NUMBER_OF_CAPTION = re.compile(
    r"(?<![\w#/.,:-])(\d{1,3}(?:,\d{3})+|\d{1,4})((?:\.\d+)?)(st|nd|rd|th|s)?(?!\w|[-/:.,]\d|[-/.:]?_|/|\.[a-z])"
    r"(?:\s(hundred|thousand|million|billion)\b)?"
)
"""A count, a year, an amount, an ordinal or a decade. Not: digits with a letter or `_` beside them (`1080p`,
`IMG_2034`), of file names (`03.webp`), after `#`, in a compound (dates, times, scores, ranges, fractions), and five or
more digits without a comma, which are ids."""
_NUMBER_OF_REWRITE = re.compile(r"(\d+(?:,\d{3})*)((?:\.\d+)?)(?:\s?(hundred|thousand|million|billion|k|m|bn)\b)?")
_MULTIPLIERS = _SCALES | {"k": 1_000, "m": 1_000_000, "bn": 1_000_000_000}


def _numbers_to_keep(caption: str, words: Sequence[str]) -> tuple[frozenset[str], ...]:
    """For each number of the caption, the values that keep it. One and zero need no keeping: "a dog" is one."""
    numbers = []
    for whole, decimals, suffix, scale in _NUMBER_OF_CAPTION.findall(caption.lower()):
        if whole[0] == "0" and not decimals:
            continue  # `001` is a number in a sequence of files
        values = {_value(whole, decimals)}
        if scale:
            values.add(_value(whole, decimals, _SCALES[scale]))
        if suffix == "s" and len(whole) == 4:
            values.add(_value(whole[2:], ""))
        if values != {"1"}:
            numbers.append(frozenset(values))
    numbers.extend(frozenset({str(value)}) for value in _spelled_numbers(words) if value > 1)
    return tuple(numbers)


def _lacks_number(numbers: Sequence[frozenset[str]], text: str, words: Sequence[str]) -> bool:
    """Whether one of the numbers is not in the text: as digits, wherever they stand, or as a word of any kind."""
    spelled = _NUMBER_WORDS.keys() & words
    found = {_NUMBER_WORDS[word] for word in spelled}
    if len(spelled) > 1 or not spelled.isdisjoint(_SCALES):
        found.update(map(str, _spelled_numbers(words)))
    if _DIGIT.search(text):
        for whole, decimals, scale in _NUMBER_OF_REWRITE.findall(text.lower()):
            found.add(_value(whole, ""))
            found.add(_value(whole, decimals))
            if scale:
                found.add(_value(whole, decimals, _MULTIPLIERS[scale]))
    return any(found.isdisjoint(values) for values in numbers)


def _value(whole: str, decimals: str, scale: int = 1) -> str:
    """One spelling for each value. Text, as no float holds an id of fifty digits."""
    digits, fraction = whole.replace(",", ""), decimals[1:].rstrip("0")
    shift = len(str(scale)) - 1
    digits, fraction = digits + fraction[:shift].ljust(shift, "0"), fraction[shift:]
    return (digits.lstrip("0") or "0") + (f".{fraction}" if fraction else "")


def _spelled_numbers(words: Sequence[str]) -> list[int]:
    """Values of the numbers that are written out: "twenty", "five" is 25, "two", "hundred" is 200.

    Not the "million" of "5 million": it belongs to the digits.
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


# Placeholders.

_ENTITY = (
    "PERSON|NAME|FIRST_?NAME|LAST_?NAME|LOCATION|LOC|PLACE|CITY|COUNTRY|STATE|ADDRESS|ORG|ORGANI[SZ]ATION|COMPANY|BRAND|"
    "DATE|TIME|YEAR|NUMBER|EVENT|TITLE|EMAIL|PHONE|URL|USER|ID"
)
_PLACEHOLDER = re.compile(rf"<[A-Z][A-Z_]+\d*>|\[(?:{_ENTITY})(?:_?\d+)?\]")
"""In angle brackets any name in capitals; in square ones only an entity's, as shops write `[SOLD]`."""


# Related or not.

_STEM_LETTERS = 4
_FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "and are for from has have her his into its near next not off one out over she some that the their there this "
        "under was were while who with",
    )
)


def _is_unrelated(content_words: frozenset[str], words: Sequence[str], least: int) -> bool:
    """Whether a rewrite has fewer content words of the caption than it must; never where the caption has none.

    Words are compared by their first letters, which takes plurals and tenses for one word, and a few different words
    too. A synonym is a different word.
    """
    if not content_words or (least == 1 and not content_words.isdisjoint(words)):
        return False
    content = {word for word in words if len(word) > 2} - _FUNCTION_WORDS
    return len({_stem(word) for word in content_words} & {_stem(word) for word in content}) < least


def _stem(word: str) -> str:
    return word.removesuffix("s")[:_STEM_LETTERS]


def build_gate(rewrite: RewriteConfig, prompt_set: PromptSet, seed: int, clip_model: str) -> Gate:
    """Build the gate that judges the rewrites of one prompt set.

    Args:
        rewrite: the rewriting configuration.
        prompt_set: the prompt set whose rewrites are judged.
        seed: the experiment's seed, which decides the prompt heads.
        clip_model: name of the CLIP model whose tokeniser counts tokens.
    """
    return Gate(
        rewrite.gate,
        head_pairs(prompt_set, rewrite.heads, seed),
        partial(count_tokens, tokenizer_spec(clip_model)),
        prompt_texts(rewrite.mode, rewrite.template),
    )
