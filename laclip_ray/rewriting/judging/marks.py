"""Find broken characters and markup in rewrites; part of the gate.

A kind of mark counts only if the caption does not have it too. `completions` has taken off the marks around a whole
text before the gate sees it, so the ones found here stand inside it, or lack their partner.
"""

import re

_SUSPICIOUS = re.compile("[*_`~#<>\\[\\]{}\\\\&/\ufffd\u0120\u010a\u2581\u00c2\u00c3\u00e2\u00ef\u00f0\u00d0\u00d1]")
"""Every mark has one of these, or a part of an address."""
_CONTINUATION = "[\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018"
_CONTINUATION += "\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178\ufffd]"
_BROKEN = (
    re.compile("\ufffd"),
    # UTF-8 that was read as Windows' Latin alphabet: "Ã©" for "é", "â€™" for an apostrophe, "ðŸ" for an emoji.
    re.compile(
        f"[\u00c2\u00c3]{_CONTINUATION}|\u00e2\u20ac|\u00e2{_CONTINUATION}{{2}}|\u00f0\u0178|\u00ef\u00bb\u00bf"
    ),
    re.compile(f"(?:[\u00d0\u00d1]{_CONTINUATION}){{2}}"),
    # Pieces of tokenizers: a byte, and the signs for a space and a line break.
    re.compile(r"<0x[0-9A-Fa-f]{2}>|\u2581"),
    re.compile("[a-z.,!?]\u0120|\u0120(?:\\s|$)|(?:\\b\u0120[a-z]\\w*\\W+){2}|[.!?]\u010a|\u010a(?:\\s|$|\u010a)"),
)
_MARKUP = (
    re.compile(r"\*\*|__|~~|(?<![\w*])\*[^\s*][^*]*\*(?![\w*])|(?<![\w_])_[^\s_][^_]*_(?![\w_])"),
    re.compile("`"),
    re.compile(r"^(?:#{1,6}|>)\s"),
    re.compile(r"\]\("),
    re.compile(r"[{}]|\[\s*\"|\"\s*:\s*\""),
    re.compile(r"\\[nrtu\"]"),
    re.compile(r"&(?:#\d+|#x[0-9a-f]+|[a-z]{2,8});", re.IGNORECASE),
    re.compile(r"https?:|www\.\w|\w\.(?:com|org|net)\b", re.IGNORECASE),
)
"""Emphasis, code, a heading or a quotation, a link, JSON, escapes, entities, addresses."""
_TAG = re.compile(r"(</?([A-Za-z|][\w:|-]*)(?:\s[^<>]*)?/?>|[<\u25c1]/?think)")
_CAPITALS = re.compile(r"[A-Z][A-Z_]+\d*")


def is_suspicious(text: str) -> bool:
    """Whether a text may have broken characters or markup; False for most texts."""
    if _SUSPICIOUS.search(text):
        return True
    return "www." in text or ".com" in text or ".org" in text or ".net" in text


def has_broken_characters(text: str, caption: str) -> bool:
    """Whether a text has characters that were decoded wrongly, of a kind that the caption does not have."""
    return any(pattern.search(text) and not pattern.search(caption) for pattern in _BROKEN)


def has_markup(text: str, caption: str) -> bool:
    """Whether a text has Markdown, JSON, a tag or an address, of a kind that the caption does not have.

    A name in capitals in angle brackets is a placeholder, and so is one that differs from the caption's by its case.
    """
    if any(pattern.search(text) and not pattern.search(caption) for pattern in _MARKUP):
        return True
    return any(
        tag not in caption and not _CAPITALS.fullmatch(name) and f"<{name.upper()}>" not in caption
        for tag, name in _TAG.findall(text)
    )
