"""Text for terminals and logs: made safe if it comes from data; counts with their nouns."""

import re

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed; a carriage return overwrites a line
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that reorder the text around them
    "\u2028\u2029\ud800-\udfff]"  # other line breaks, and surrogates, which no stream can encode
)


def printable(text: str) -> str:
    r"""The text with each control character as an escape sequence.

    >>> printable("red\x1b[31m")
    'red\\x1b[31m'
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


def counted(number: int, noun: str) -> str:
    """A number with its noun in the singular or plural.

    >>> counted(1, "task"), counted(1_200, "task")
    ('1 task', '1,200 tasks')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable_line(text: str) -> str:
    """Like `printable`, on one line: line feeds and tabs are escaped too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
