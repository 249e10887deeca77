"""Where an engine stops a completion, beside the model's own end of text and the token limit.

In completion mode the rewrite ends at the line break or at the separator: a base model goes on with the next pair, or
repeats `caption => caption => ...`, up to the token limit. In chat mode it ends with the turn, as the chat template
writes it: with some models that token is not the end of text that the engine knows. No line break ends an answer,
because one may come before the rewrite: behind thoughts, inside a code fence, after `Here it is:`.
"""

from dataclasses import dataclass
from typing import Any

from laclip_ray.config import PromptMode
from laclip_ray.rewriting.prompting.prompts import SEPARATOR, Messages, chat_template_of
from laclip_ray.rewriting.prompting.thinking import are_thinking_tags

COMPLETION_STOPS = ("\n", SEPARATOR)

_TURNS: Messages = [
    {"role": "user", "content": "first caption"},
    {"role": "assistant", "content": "first rewrite"},
    {"role": "user", "content": "second caption"},
]


@dataclass(frozen=True)
class Stops:
    """What ends a completion, as vLLM takes it."""

    strings: tuple[str, ...] = ()
    """Texts; they are not part of the completion."""
    token_ids: tuple[int, ...] = ()
    """Tokens; they are not part of the completion."""
    hides_special_tokens: bool = True
    """Whether the completion leaves out the tokenizer's special tokens. False if a model's thoughts end in one."""


def stops_of(mode: PromptMode, tokenizer: Any) -> Stops:
    """The stops for prompts of a mode.

    Args:
        mode: how prompts are written.
        tokenizer: the model's, as transformers has it.
    """
    if mode == "completion":
        return Stops(strings=COMPLETION_STOPS)
    try:
        added = tokenizer.added_tokens_decoder
        end = _turn_end(tokenizer)
        ids = [token_id for token_id in tokenizer.encode(end, add_special_tokens=False) if token_id in added]
    except Exception:  # noqa: BLE001 - a tokenizer's own code; the model's end of text ends its answers as well
        return Stops()
    hides = not are_thinking_tags({token.content for token in added.values() if token.special})
    if ids:
        return Stops(token_ids=(ids[0],), hides_special_tokens=hides)
    return Stops(strings=(end.rstrip(),) if end.strip() else (), hides_special_tokens=hides)


def _turn_end(tokenizer: Any) -> str:
    """The text between an answer and the next caption; empty if the chat template does not tell."""
    _, _, after = chat_template_of(tokenizer)(_TURNS).partition(_TURNS[1]["content"])
    end, found, _ = after.partition(_TURNS[2]["content"])
    return end if found else ""
