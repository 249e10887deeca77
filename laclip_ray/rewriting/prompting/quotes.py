"""Take quotes off a whole text: `"A mug."`, `“A mug.”`, `'A mug.'`, `「…」`, nested ones, and one without its partner.

A quote belongs to one of three families (double, single, corner brackets). Its neighbours say whether it opens or
closes, because languages use the same sign for both („so“, »so«, “so”).

Guarantees: quotes around a part of the text stay (`"One way" sign`), and so do apostrophes and inches.
"""

import re

_DOUBLE = '"\u201c\u201d\u201e\u201f\u00ab\u00bb\uff02'
_SINGLE = "'\u2018\u2019\u201a\u201b\u2039\u203a\uff07"
_CORNERS = "\u300c\u300d\u300e\u300f\u300a\u300b\u3008\u3009\ufe41\ufe42\ufe43\ufe44"
_SIGNS = _DOUBLE + _SINGLE + _CORNERS
_RUN = re.compile(f"[{_SIGNS}]+")
_FAMILY = {sign: family for family in (_DOUBLE, _SINGLE, _CORNERS) for sign in family}
_ALWAYS_OPENS = frozenset("\u201e\u201a\u300c\u300e\u300a\u3008\ufe41\ufe43")
_ALWAYS_CLOSES = frozenset("\u300d\u300f\u300b\u3009\ufe42\ufe44")
_ELISION = re.compile(
    r"['\u2019](?:(?:tis|twas|twere|twill|til|till|em|cause|bout|round|neath|nuff|\d0s)\b|n\s|s[-\s])", re.IGNORECASE
)
"""Words that begin with an apostrophe."""
_SENTENCE_ENDS = ".!?\u3002\uff01\uff1f"
_END_MARKS = _SENTENCE_ENDS + ",;:"


def without_outer_quotes(text: str) -> str:
    """The text without the quotes around all of it, and without an outer quote that has no partner.

    A full stop behind the closing quote stays: `"A mug".` becomes `A mug.`
    """
    inner = text.strip(_SIGNS)
    if inner and inner != text:
        before, after = len(text) - len(text.lstrip(_SIGNS)), len(text) - len(text.rstrip(_SIGNS))
        layers = min(before, after)
        text = text[layers - 1 : len(text) - layers + 1] if layers > 1 else text  # many layers at once
    while (inner := _peel(text)) != text:
        text = inner
    return text


def _peel(text: str) -> str:
    first = _FAMILY.get(text[:1])
    if first is not None and not (first is _SINGLE and _ELISION.match(text)):
        return _peel_first(text, first)
    last = _FAMILY.get(text[-1:])
    if last is not None and _unmatched(text, last)[1] and not _belongs_to_word(text):
        return text[:-1].rstrip()
    return text


def _peel_first(text: str, family: str) -> str:
    """Take off the first character, a quote, with its partner if that is the last one."""
    mark = text[-1] if text[-1] in _END_MARKS else ""
    body = text[:-1].rstrip() if mark else text
    opened, closed = _unmatched(body, family)
    if len(body) < 2 or 0 in opened:
        return text[1:].lstrip() if len(text) > 1 and 0 in opened else text
    if body[-1] in family and not closed and _partner_of_first(body, family) == len(body) - 1:
        inner = body[1:-1].strip()
        return inner + mark if mark and mark in _SENTENCE_ENDS and inner[-1:] not in _SENTENCE_ENDS else inner
    return text


def _quotes(text: str, family: str) -> list[tuple[int, bool]]:
    """The quotes of a family in a text: (position, whether it opens)."""
    found = []
    for run in _RUN.finditer(text):
        before, after = text[run.start() - 1 : run.start()], text[run.end() : run.end() + 1]
        behind_gap = before.isspace() or (not before.isalnum() and (after.isalnum() or before in "([{-/"))
        opens = bool(after) and (not before or (behind_gap and not after.isspace()))
        is_inside = len(run[0]) == 1 and before.isalnum() and after.isalnum()
        for position in range(run.start(), run.end()):
            sign = text[position]
            if sign in family and (sign in _CORNERS or not is_inside):
                found.append((position, sign in _ALWAYS_OPENS or (opens and sign not in _ALWAYS_CLOSES)))
    return found


def _unmatched(text: str, family: str) -> tuple[set[int], set[int]]:
    """Positions of the quotes that open and are never closed, and of the ones that close and were never opened."""
    opened: list[int] = []
    closed: set[int] = set()
    for position, opens in _quotes(text, family):
        if opens:
            opened.append(position)
        elif opened:
            opened.pop()
        else:
            closed.add(position)
    return set(opened), closed


def _partner_of_first(text: str, family: str) -> int | None:
    """Position of the quote that closes the first one."""
    depth = 0
    for position, opens in _quotes(text, family):
        depth += 1 if opens else -1
        if depth == 0:
            return position
    return None


def _belongs_to_word(text: str) -> bool:
    """Whether a quote at the end is a sign of feet or inches (`12"`) or of the plural (`the dogs'`)."""
    return text[-1] in "\"'\u2019" and (text[-2:-1].isdigit() or (text[-1] in "'\u2019" and text[-2:-1] in "sS"))
