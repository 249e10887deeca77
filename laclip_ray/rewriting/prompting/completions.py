"""From a model's completion to a rewrite: one normaliser, which runs before the gate.

Models put things around a rewrite: a list mark, a label, quotes, a code fence, JSON, a tag, thoughts, a second version.
`parse_completion` takes all of it away and keeps one line. `reference_completion` does only what the paper's code does.

Guarantees: both are pure. `parse_completion` is idempotent. No rule takes the last word of a text: the result holds a
word if the completion holds one that can be printed.

Not covered: talk that is no label (`Sure! A mug.`), refusals, and markup in the middle of a text. The gate
refuses them.
"""

import html
import json
import re
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from laclip_ray.config import CompletionRule, PromptMode
from laclip_ray.rewriting.prompting.prompts import SEPARATOR
from laclip_ray.rewriting.prompting.quotes import without_outer_quotes
from laclip_ray.rewriting.prompting.stops import COMPLETION_STOPS
from laclip_ray.rewriting.prompting.thinking import after_thinking, closing_tag

VERSION = 1
"""Part of a recipe's fingerprint. Raised by every change of the text taken from a completion."""
_TURN_END = re.compile(
    r"<\|(?:im_end|im_start|eot_id|eom_id|end|return|endoftext|end_of_text|END_RESPONSE|END_OF_TURN_TOKEN)\|>"
    r"|</s>|<end_of_turn>|<turn\|>|<\uff5cend\u2581of\u2581sentence\uff5c>|<\|close\|>response<\|sep\|>"
)
_TURN_START = re.compile(r"<\|START_RESPONSE\|>|<\|open\|>response<\|sep\|>|<\|message\|>")

_WORD = re.compile(r"[^\W_]")
_ORDINARY = re.compile(r"[A-Za-z][A-Za-z0-9 ,.-]*(?:'[a-z][A-Za-z0-9 ,.-]*)*")
"""Most completions. No rule changes one of them, except for ` OR ` and `assistantfinal`."""
_LINE_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]|<[bB][rR] ?/?>")
_TERMINAL_CODE = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?")
"""A sequence that changes a terminal's colours, cursor or title."""
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]")
"""Control characters, invisible ones, and marks that reorder the text around them."""
_MISREAD = re.compile("[\x80-\x9f]")
"""Control characters that no model means: bytes of Windows' Latin alphabet, read as Latin-1."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")

_FENCE_LINE = re.compile(r"^[ \t]*(?:```|~~~)[\w+-]*[ \t]*$", re.MULTILINE)
_FENCE_OPEN = re.compile(r"^\s*```(?:json|text|txt|plaintext|plain|markdown|md|xml|html|yaml)?(?=[\s{\"])")
_JSON_OBJECT = re.compile(r"\{\s*(['\"])[\w -]{1,40}\1\s*:\s*(['\"])((?:(?!\2).)*)\2\s*,?\s*\}")
"""One key and one text, in quotes of one kind: Python's way to write a dictionary, too."""
_TAG = re.compile(
    r"\s*<(?!\w*(?:think|thought|reason))([A-Za-z][\w-]*)(?:\s[^<>]*)?>(.*?)</\1\s*>[ \t]*(?=\n|$)", re.DOTALL
)
"""A tag around the whole text, or around its first lines. Thoughts are no rewrite."""
_TAG_NAMES = (
    "caption|rewrite|rewritten|rewritten_caption|new_caption|output|answer|response|result|text|alt|final|final_answer"
    "|html|body|div|p|span|pre|code|li|ul|ol|h[1-6]|td|tr|blockquote|figcaption|title"
)
_LONE_TAG = re.compile(rf"^\s*<(?:{_TAG_NAMES})(?:\s[^<>]*)?/?>|</?(?:{_TAG_NAMES})\s*/?>\s*$", re.IGNORECASE)
_STYLE_TAG = re.compile(r"</?(?:b|i|u|s|em|strong|mark|small|sup|sub|font)(?:\s[^<>]*)?>", re.IGNORECASE)

_EMPHASIS = re.compile(
    r"(?<![\w*])(?P<stars>\*{1,3})(?=[^\s*])(?P<starred>[^*\n]*?[^\s*])(?P=stars)(?!\*)"
    r"|(?<![\w_])(?P<lines>_{1,3})(?=[^\s_])(?P<underlined>[^\n]*?[^\s_])(?P=lines)(?![\w_])"
    r"|(?P<ticks>`{1,3})(?=[^`])(?P<code>[^`\n]*[^`\s])[ \t]*(?P=ticks)"
    r"|~~(?=\S)(?P<struck>[^~\n]*?\S)~~"
)
_LONE_EMPHASIS = re.compile(r"^(?:\*{2,3}|_{2,3}|`{1,3}|~~)(?=\S)|(?<=\S)(?:\*{2,3}|_{2,3}|`{1,3}|~~)$")
_LIST_MARK = re.compile(
    r"(?:[-*+\u2022\u2023\u25aa\u25cf\u25cb\u25e6\u2013\u2014\u203a\u00b7>]|->|[\u2192\u27a1\u27a4]\ufe0f?"
    r"|#{1,6}|\(?\d{1,2}[.)]|\d{1,2}:|\(?[A-Za-z]\))\s+(?=\S)|\d{1,2}[.)](?=[A-Z])"
)
_WORDING = r"(?:re-?writ\w*|re-?word\w*|re-?phras\w*|paraphras\w*|captions?|versions?|variations?|alternatives?)"
_ADJECTIVE = (
    "(?:new|improved|updated|edited|final|alternate|alternative|suggested|possible|concise|short|better|simple|clean"
    "|revised|re-?written|re-?worded|re-?phrased|paraphrased|image|photo|picture)"
)
_NOUN = (
    r"(?:re-?writ(?:e|ing|ten)|re-?word(?:ing|ed)|re-?phras(?:e|ing|ed)|paraphrased?|revised|revision|captions?|titles?"
    r"|alt(?:ernat(?:e|ive))?|alt[ -]?text|descriptions?|output|answer|response|result|target|version|variation|option"
    r"|assistant|image|photo|picture)"
)
_POLITE = r"(?:sure|certainly|of course|okay|ok|absolutely|great)\b"
_LABEL = re.compile(
    rf"(?:{_POLITE}[!,.]?\s+)?(?:(?:the|my|your|an?|one|another)\s+)?(?:{_ADJECTIVE}[\s_-]+){{0,3}}{_NOUN}(?:[\s_-]+(?:text|caption|version))?"
    rf"(?:\s*#?\d{{1,2}})?\s*[:\uff1a]\s*"
    rf"|(?:{_POLITE}[^:\n]{{0,40}})?"
    rf"\b(?:here(?:'|\u2019)?s?|this)\b[^:\n]{{0,60}}\b{_WORDING}\b[^:\n]{{0,40}}:\s*",
    re.IGNORECASE,
)
"""`Caption:`, `Alt text:`, `Rewritten caption 1:`, `Here is a rewritten caption:` at the start of a text."""
_LEAD_IN_LINE = re.compile(
    rf"(?:{_POLITE}|here|this|{_ADJECTIVE}\b|{_NOUN}\b|[^:\n]*\b{_WORDING}\b)"
    r"[^\n]{0,100}:",
    re.IGNORECASE,
)
"""A line that announces the next one."""
_POLITE_LINE = re.compile(rf"{_POLITE}(?: thing)?\W*|here (?:you go|you are|it is|goes)\W*", re.IGNORECASE)
_SOURCE_LABEL = re.compile(
    r"(?:the\s+)?(?:original|source|input|old|given)(?:\s+(?:image|alt))?(?:\s+(?:caption|text))?\s*[:\uff1a]",
    re.IGNORECASE,
)
_HASHTAG = re.compile(r"#\w+[.,]?")
_SENTENCE_END = re.compile(r"[.!?\u2026,;:)\]\"'\u201d\u3002\uff01\uff1f]\s*$")
_OR = re.compile(r"\s+(?:/|\|\||OR)\s+")
_ARTICLES = frozenset({"a", "an", "the", "this", "these", "two", "three", "several", "some", "there", "people", "man"})
_LEAST_ALTERNATIVE_WORDS = 3
_SHORT_WORD = 3
"""Letters of a word that says little."""
_CUT_MARK = "\ua66e"
"""A letter that no model writes."""


def reference_completion(completion: str) -> str:
    """The rewrite as the paper's code takes it: the rest of the caption's line, up to the next separator.

    `rewrite/llama_rewrite.py` in github.com/LijieFan/LaCLIP splits the text at line breaks, takes the line of the
    caption, and of that line the part behind the first separator. Surrogates, which no file can store, become U+FFFD.
    """
    text = completion.split("\n", 1)[0].split(SEPARATOR, 1)[0].strip()
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def describe_completions(rule: CompletionRule, mode: PromptMode) -> dict[str, Any]:
    """How rewrites are taken from completions, as JSON, for a recipe's fingerprint."""
    stops = list(COMPLETION_STOPS) if mode == "completion" else ["the end of the turn"]
    described: dict[str, Any] = {"rule": rule, "stops": stops}
    return described if rule == "reference" else {**described, "version": VERSION}


def parse_completion(completion: str, caption: str = "") -> str:
    """Take the rewrite out of a model's completion.

    Args:
        completion: the model's text.
        caption: the original caption. A mark that the caption has itself (a label, a list mark, ` / `) stays.

    Returns:
        One line without outer spaces and without control characters. Surrogates, which no file can store, become
        U+FFFD.
    """
    text = completion.strip()
    if _ORDINARY.fullmatch(text) and " OR " not in text and "assistantfinal" not in text:
        return text
    while (new := _parse_once(text, caption)) != text:
        text = new
    return text


def is_cut(completion: str, caption: str = "") -> bool:
    """Whether the rewrite in a completion reaches the completion's end, so that a token limit cut the rewrite off.

    True for a limit inside a block of thoughts. False for a limit behind the rewrite: in a remark on the next line, or
    in a second version.
    """
    return closing_tag(completion) is not None or _CUT_MARK in parse_completion(completion + _CUT_MARK, caption)


def holds_word(text: str) -> bool:
    """Whether a text has a letter or a digit."""
    return _WORD.search(text) is not None


Rule = Callable[[str, str], str]


def _parse_once(text: str, caption: str) -> str:
    text = _clean(text)
    for rule in _RULES:
        new = rule(text, caption).strip()
        if new != text and (_WORD.search(new) or not _WORD.search(text)):
            text = new
    return text


def _clean(text: str) -> str:
    """Unify line breaks, and remove what cannot be printed."""
    if not text.isascii() or not text.isprintable():
        text = _LINE_BREAKS.sub("\n", _TERMINAL_CODE.sub("", text))
        text = _SURROGATE.sub("\ufffd", _CONTROL.sub("", text.replace("\t", " ")))
        text = _MISREAD.sub(lambda match: match[0].encode("latin-1").decode("cp1252", "replace"), text)
    elif "<" in text:
        text = _LINE_BREAKS.sub("\n", text)
    return text.strip()


def _unescape(text: str, caption: str) -> str:
    while "&" in text and (new := _ENTITY.sub(lambda match: html.unescape(match[0]), text)) != text:
        text = new
    if "\\" in text:
        text = re.sub(r"\\([\"'*_#`\[\]])", r"\1", text)
        if "\\n" not in caption:
            text = re.sub(r"\\n(?=[^a-z]|$)", "\n", text)
    return text


def _after_thinking(text: str, caption: str) -> str:
    return after_thinking(text)


def _before_turn_end(text: str, caption: str) -> str:
    if "<" not in text:
        return text
    text = _TURN_START.split(text)[-1]
    return next((part for part in _TURN_END.split(text) if _WORD.search(part)), text)


def _without_fences(text: str, caption: str) -> str:
    if "```" in text or "~~~" in text:
        text = _FENCE_OPEN.sub("", _FENCE_LINE.sub("", text).strip(), count=1)
        text = text.removesuffix("```") if text.count("```") == 1 else text
    return text


def _after_lead_in(text: str, caption: str) -> str:
    """Skip first lines that announce the rewrite, and the caption repeated before it."""
    line, line_break, rest = text.partition("\n")
    if not line_break or not _WORD.search(rest):
        return text
    plain = line.strip(" *_#>")
    is_announced = plain.endswith(":") and _LEAD_IN_LINE.match(plain)
    if is_announced or _SOURCE_LABEL.match(plain) or _POLITE_LINE.fullmatch(plain) or _LABEL.fullmatch(f"{plain}:"):
        return rest
    label = _LABEL.match(plain)
    if caption and _is_same(plain[label.end() :] if label else plain, caption) and _LABEL.match(rest.strip(" *_#>\n")):
        return rest
    return text


def _is_same(text: str, other: str) -> bool:
    return re.findall(r"\w+", text.casefold()) == re.findall(r"\w+", other.casefold())


def _from_json(text: str, caption: str) -> str:
    if text[:1] not in ("{", "[", '"'):
        return text
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        match = _JSON_OBJECT.match(text)
        if match is None:
            return text
        value, end = match[3], match.end()
    if text[end:].partition("\n")[0].strip():
        return text  # `"Yes" and "no"`
    written = _only_text(value)
    return text if written is None else written


def _only_text(value: Any) -> str | None:
    """The text of a JSON value that holds one."""
    for _ in range(8):
        if isinstance(value, str):
            return value
        if not isinstance(value, dict | list) or len(value) != 1:
            return None
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return None


def _from_tag(text: str, caption: str) -> str:
    if "<" not in text:
        return text
    if match := _TAG.match(text):
        return match[2]
    return _STYLE_TAG.sub("", _LONE_TAG.sub("", text))


def _first_line(text: str, caption: str) -> str:
    lines = text.split("\n")
    return next((line for line in lines if _WORD.search(line)), lines[0])


def _before_separator(text: str, caption: str) -> str:
    if SEPARATOR not in text:
        return text
    parts = [part for part in text.split(SEPARATOR) if _WORD.search(part)] or [text.replace(SEPARATOR, "")]
    # A chat model sometimes repeats the caption: `caption => rewrite`.
    return parts[1] if len(parts) > 1 and caption and _is_same(parts[0], caption) else parts[0]


def _without_emphasis(text: str, caption: str) -> str:
    if not any(mark in text for mark in "*_`~"):
        return text

    def inner(match: re.Match[str]) -> str:
        if match[0] in caption:
            return match[0]
        return match["starred"] or match["underlined"] or match["code"] or match["struck"]

    text = _EMPHASIS.sub(inner, text)
    return _LONE_EMPHASIS.sub(lambda match: match[0] if match[0] in caption else "", text)


def _without_list_mark(text: str, caption: str) -> str:
    while (match := _LIST_MARK.match(text)) and not caption.lstrip().startswith(match[0].strip()):
        text = text[match.end() :]
    return text


def _without_label(text: str, caption: str) -> str:
    if ":" not in text and "\uff1a" not in text:
        return text
    match = _LABEL.match(text)
    return text if match is None or _LABEL.match(re.sub(r"\s+:", ":", caption.lstrip())) else text[match.end() :]


def _without_quotes(text: str, caption: str) -> str:
    return without_outer_quotes(text)


def _without_hashtags(text: str, caption: str) -> str:
    """Remove hashtags at the end: two or more, or one behind a finished sentence. A single one may be a word of it."""
    if "#" not in text:
        return text
    words = list(re.finditer(r"\S+", text))
    tags = list(takewhile(lambda word: _HASHTAG.fullmatch(word[0]), reversed(words)))[::-1]
    while tags and tags[0][0].strip("#.,").isdigit():
        del tags[0]  # `edition #5`
    if not tags:
        return text
    before = text[: tags[0].start()]
    return before if len(tags) > 1 or _SENTENCE_END.search(before) else text


def _without_alternative(text: str, caption: str) -> str:
    """Cut the text at ` / ` or ` OR ` if whole versions of the caption stand around it, with a word in common."""
    found = _OR.search(text)
    if found is None or _OR.search(caption) or text.isupper():
        return text
    first, *others = (part.split() for part in _OR.split(text))
    if min(map(len, [first, *others])) < _LEAST_ALTERNATIVE_WORDS:
        return text
    capitals_begin_sentences = any(len(word) > _SHORT_WORD and word.islower() for word in first[1:])

    def is_version(words: list[str]) -> bool:
        word = words[0]
        return not _long_words(first).isdisjoint(_long_words(words)) and (
            first[-1][-1] in ".!?"
            or word.casefold() in {*_ARTICLES, first[0].casefold()}
            or (word[0].isupper() and capitals_begin_sentences)
        )

    return text[: found.start()] if all(map(is_version, others)) else text


def _long_words(words: list[str]) -> set[str]:
    return {word.strip(".,;:!?").casefold() for word in words if len(word) > _SHORT_WORD}


_RULES: tuple[Rule, ...] = (
    _unescape,
    _after_thinking,
    _before_turn_end,
    _without_fences,
    _after_lead_in,
    _from_json,
    _from_tag,
    _first_line,
    _before_separator,
    _without_emphasis,
    _without_list_mark,
    _without_label,
    _without_quotes,
    _without_hashtags,
    _without_alternative,
)
"""In order. They are repeated until the text stays the same; each shortens a text that it changes."""
