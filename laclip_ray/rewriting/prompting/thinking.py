"""Thoughts of reasoning models: the tags around them, and prompts that leave a block of them open."""

import re

_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"),
    ("<ifm|think>", "</ifm|think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|plamo:begin_think:plamo|>", "<|plamo:end_think:plamo|>"),
    ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),
    ("<|channel>thought", "<channel|>"),
)
"""How model families open and close a block of thoughts, as vLLM's reasoning parsers and their chat templates do."""
_LAST_CHANNEL = (r"<\|channel\|>final<\|message\|>", r"\bassistantfinal")
"""How gpt-oss ends its thoughts, with its special tokens and without."""
_CLOSED = re.compile("|".join([*(re.escape(close) for _, close in _TAGS), *_LAST_CHANNEL]))
_SIGNS = ("hink", "THINK", "hought", "reasoning", "channel", "assistantfinal")
"""Every tag has one of them."""
_OTHER_OPEN_TAG = re.compile(r"<([\w:-]*(?:think|thought|reason)[\w:-]*)>\s*$", re.IGNORECASE)


def after_thinking(text: str) -> str:
    """The text behind the last closed block of thoughts; the whole text without one."""
    if not any(sign in text for sign in _SIGNS):
        return text
    end = 0
    for match in _CLOSED.finditer(text):
        end = match.end()
    return text[end:]


def closing_tag(prompt: str) -> str | None:
    """The tag that closes the block of thoughts which is open at the end of a prompt; None: no block is open."""
    last, closing = -1, None
    for opening, close in _TAGS:
        position = prompt.rfind(opening)
        if position > last and prompt.find(close, position) < 0:
            last, closing = position, close
    if closing is None and (match := _OTHER_OPEN_TAG.search(prompt)):
        closing = f"</{match[1]}>"
    return closing


def are_thinking_tags(tokens: set[str]) -> bool:
    """Whether special tokens of a tokenizer belong to a model's thoughts, so that they must stay in its text."""
    return any(_CLOSED.search(token) or token in ("<|channel|>", "<|message|>") for token in tokens)
