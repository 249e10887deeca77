"""The paper's rule for a completion, stated in other words than the package's, and completions that are hard on it.

Source: `rewrite/llama_rewrite.py` (which text is kept) and `data.py` (which kept text is shown) in
github.com/LijieFan/LaCLIP.
"""

from itertools import product
from random import Random

from laclip_ray.rewriting.prompting.prompts import Head

CAPTION = "two dogs run over a wet beach"


def kept_text(head: Head, caption: str, completion: str) -> str:
    """The text that is kept of a completion.

    The model's text begins with the whole prompt. Three pairs and the caption stand on every second line of it, so the
    caption is on the ninth. What is kept begins behind the first arrow of that line and ends before the second, or at
    the end of the line. Only a line feed ends a line. White space around the text goes.
    """
    whole = f"{head.before}{caption}{head.after}{completion}"
    _, _, from_arrow = whole.split("\n", 8)[8].partition("=>")
    line, _, _ = from_arrow.partition("\n")
    text, _, _ = line.partition("=>")
    return text.strip()


def shown_text(kept: str, caption: str) -> str:
    """The text that is shown when the draw picks the kept one: a text without a space gives way to the caption."""
    return kept if " " in kept else caption


_WORDS = [
    "Two dogs run.",
    "dogs",
    "wet\tbeach",
    "beach\u00a0run",
    "",
    "\u7a7a\u6ce2 \u72d7",
    "a  b",
    "=",
    ">",
    "12 3",
    "\U0001f415 \U0001f3d6",
]
_JOINTS = [
    "\n",
    "=>",
    " => ",
    "\r\n",
    "\r",
    "\u2028",
    "\x0b",
    "\x0c",
    "\x85",
    "\t",
    "  ",
    "\n\n            ",
    "=>=>",
    "= >",
    "\x00",
    "\ufeff",
]
_WRAPPED = [
    '"@"', "\u201c@\u201d", "**@**", "- @", "1. @", "```\n@\n```", '{"caption": "@"}', "<b>@</b>", "Caption: @",
    "@ / @", "Sure, here is a rewrite: @", "@ OR @", "@ #dogs #beach", "\x1b[31m@\x1b[0m", "<think>hm</think>@", " @ ",
    "I'm sorry, I cannot do that.", "@<|im_end|>", "@" + " and dogs" * 40, "&quot;@&quot;",
]  # fmt: skip
"""`@` stands for a word."""


def nasty_completions(count: int, seed: int = 0) -> list[str]:
    """Distinct completions with arrows, line ends, odd spaces, marks, talk, markup and nothing at all."""
    draws = Random(seed)
    joined = [f"{first}{joint}{second}" for first, joint, second in product(_WORDS, _JOINTS, _WORDS)]
    wrapped = [form.replace("@", word) for form, word in product(_WRAPPED, _WORDS)]
    draws.shuffle(joined)
    # Every kind of wrapping once, then a mixture.
    chosen = list(dict.fromkeys([*wrapped[:: len(_WORDS)], *_WORDS, *_JOINTS, *joined, *wrapped]))
    return chosen[:count]
