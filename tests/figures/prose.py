"""Count stilted turns of phrase in docstrings, comments and pages.

A count is a place to look, not a verdict: a single hit is often ordinary English.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable
from pathlib import Path

TURNS = tuple(
    map(
        re.compile,
        (
            r"\bthat (?:is|are|was|were)\b",
            r"\b(?:of|by|in|from|with|on|at) (?:which|whom)\b",
            r"\b(?:those (?:that|of|which|who)|that of|that which)\b",
            r"\b[Ww]hat (?:is|was|are|were|a|an|the|it|they|others|comes|has|had)\b",
            r"\bso (?:many|much)\b",
            r"\bas (?:far as|it is|they are|they were|it was)\b",
            r"\blets? (?:\w+ )?go\b",
            r"\bwhere (?:there|it|they|nobody|none|one)\b",
            r"\bgo(?:es)? on\b",
            r"\b(?:whatever|whoever)\b",
            r"(?:^|\. )Of (?:the|a|an|each|one|what|this|all|rewriting|training|table)\b",
            r"\b(?:nobody|nothing|none)\b",
            r"\bso that\b",
            r"\b(?:is|are|was|were) to (?:be|have|show)\b",
        ),
    )
)


def prose_of(path: Path) -> str:
    """The docstrings and comments of a Python file, or the text of a page."""
    text = path.read_text()
    if path.suffix != ".py":
        return text
    strings = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    comments = [
        token.string[1:]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT and not re.match(r"# (noqa|type|fmt)", token.string)
    ]
    return "\n".join(" ".join(piece.split()) for piece in (*strings, *comments))


def turns_per_thousand_words(paths: Iterable[Path]) -> float:
    """Stilted turns in the files' prose, for each 1,000 words of it."""
    texts = [prose_of(path) for path in paths]
    words = sum(len(text.split()) for text in texts)
    return 1_000 * sum(len(turn.findall(text)) for text in texts for turn in TURNS) / max(words, 1)
