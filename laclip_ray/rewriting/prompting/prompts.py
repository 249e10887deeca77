"""Prompts for caption rewriting: an instruction, three example pairs, then the caption to rewrite.

In-context rewriting as in LaCLIP (Fan et al., NeurIPS 2023, section 3.2): the prompt shows three captions with a
rewrite of each, then the caption. A base model continues the last of a few `source => target` lines
(`completion_head`). An instruct model sees the same pairs as turns of a conversation (`chat_head`).

The paper draws three random pairs for each caption. Here a prompt set has a fixed number of *heads* (everything in the
prompt before the caption), and a hash of the sample's id and the set's name chooses the head. The engine's prefix cache
can hold a few heads; variety comes from sampling and from the sets.

Guarantees: all functions are pure, except for the caller's chat template. A caption is always one line of its prompt,
between the two fixed texts of its head. A prompt knows its parts, so control tokens spelled out in a caption
(`<|im_end|>`) can be encoded as text (`literal_tokens`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml

from laclip_ray.config import PromptMode, Template
from laclip_ray.errors import UserError
from laclip_ray.nearest import did_you_mean
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.prompting.thinking import closing_tag

PAIRS_PER_HEAD = 3
SEPARATOR = "=>"
INSTRUCTION = "Rewrite each image caption in other words. Say what it says, and add nothing that it does not."
REFERENCE_INSTRUCTION = "write image captions differently,"
"""First line of the prompts in the paper's code."""
REFERENCE_INDENT = " " * 12
"""Indent of the further lines: the paper's code writes the prompt as one string over several indented lines."""
CHAT_INSTRUCTION = (
    "You rewrite image captions. Every message is the caption of one picture. Answer with a caption that says the "
    "same in other words and adds nothing to it. Write that caption alone, on one line, without quotes or remarks."
)
CHAT_TEMPLATE_SETTINGS: dict[str, Any] = {"add_generation_prompt": True, "enable_thinking": False, "thinking": False}
"""Arguments of a chat template. Qwen's and GLM's call their thinking mode `enable_thinking`, DeepSeek's and Granite's
`thinking`; a template without one ignores both."""
BUILT_IN_DIRECTORY = Path(__file__).parent / "prompt_sets"
RENAMED_SETS = {"human": "cleaned"}
"""Earlier names of built-in prompt sets. `human` is the name of a set of the paper's."""
_SENTINEL = "Caption \u27e67c1e\u27e7 & <b>'so'</b>, \"S\u00f6\" \\ 100 % {{x}} | #1"
"""Stands for the caption when a chat prompt is split into a head. It contains everything that a template might escape,
fold or strip, so that such a template is noticed."""

Messages = list[dict[str, str]]
"""A conversation: turns with a `role` and a `content`."""


@dataclass(frozen=True)
class ExamplePair:
    """A caption and one way to rewrite it, shown to the model as a line `source => target`."""

    source: str
    target: str
    group: int | None = None
    """Number of the picture that both texts describe, if several pairs describe it: a head shows one of them."""


@dataclass(frozen=True)
class PromptSet:
    """A named list of example pairs in one style."""

    name: str
    description: str
    pairs: tuple[ExamplePair, ...]


class Prompt(str):
    """The text of a prompt, and its three parts."""

    before: str
    """The head's text before the caption."""
    caption: str
    """The caption, cleaned."""
    after: str
    """The head's text after the caption."""

    def __new__(cls, before: str, caption: str, after: str) -> "Prompt":
        """Join the parts."""
        prompt = super().__new__(cls, f"{before}{caption}{after}")
        prompt.before, prompt.caption, prompt.after = before, caption, after
        return prompt


@dataclass(frozen=True)
class Head:
    """The fixed parts of a prompt, around the caption."""

    pairs: tuple[ExamplePair, ...]
    before: str
    """The text before the caption. All captions with this head share it, so the engine's prefix cache holds it."""
    after: str
    """The text after the caption."""

    def prompt(self, caption: str) -> Prompt:
        """The full prompt for `caption`, which the model continues with the rewrite."""
        return Prompt(self.before, clean_caption(caption), self.after)


def built_in_prompt_sets() -> list[str]:
    """Names of the prompt sets that come with the package."""
    return sorted(path.stem for path in BUILT_IN_DIRECTORY.glob("*.yaml"))


def load_prompt_set(name_or_path: str) -> PromptSet:
    """Read a prompt set by its built-in name or from a YAML file.

    Raises:
        UserError: there is no such set, or the file is not a prompt set; the message names the wrong part.
    """
    path = BUILT_IN_DIRECTORY / f"{name_or_path}.yaml"
    if name_or_path not in built_in_prompt_sets():
        path = Path(name_or_path)
        if name_or_path in RENAMED_SETS:
            new = RENAMED_SETS[name_or_path]
            raise UserError(
                f"rewrite.prompt_sets: the built-in set {name_or_path!r} is called {new!r} now; write {new}"
            )
        if not path.is_file():
            raise UserError(
                f"rewrite.prompt_sets: {name_or_path!r} is neither a built-in prompt set "
                f"({', '.join(built_in_prompt_sets())}) nor a YAML file"
                f"{did_you_mean(name_or_path, built_in_prompt_sets())}"
            )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"prompt set {path}: not readable as YAML: {error}") from error
    return parse_prompt_set(content, default_name=path.stem, where=str(path))


def parse_prompt_set(content: object, default_name: str, where: str) -> PromptSet:
    """Parse the content of a YAML file as a prompt set. Texts stay unchanged, outer spaces included.

    Args:
        content: the parsed YAML.
        default_name: the set's name if the content has none.
        where: the file, for error messages.

    Raises:
        UserError: the content is not a prompt set; the message names the wrong part.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("pairs"), list):
        raise UserError(f"prompt set {where}: expected a mapping with a list `pairs`")
    name = content.get("name", default_name)
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UserError(f"prompt set {where}: `name` must be letters, digits, '_', '.' and '-', got {name!r}")
    pairs = []
    for number, entry in enumerate(content["pairs"]):
        texts = (entry.get("source"), entry.get("target")) if isinstance(entry, Mapping) else (None, None)
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                raise UserError(f"prompt set {where}: pairs[{number}] needs a text `source` and a text `target`")
            if text.splitlines() != [text] or SEPARATOR in text:
                raise UserError(f"prompt set {where}: pairs[{number}] holds a line break or {SEPARATOR!r}")
        group = entry.get("group")
        if group is not None and (isinstance(group, bool) or not isinstance(group, int)):
            raise UserError(f"prompt set {where}: pairs[{number}]: `group` must be a whole number, got {group!r}")
        pairs.append(ExamplePair(str(texts[0]), str(texts[1]), group))
    pictures = len({number if pair.group is None else f"group {pair.group}" for number, pair in enumerate(pairs)})
    if pictures < PAIRS_PER_HEAD:
        kind = "pairs" if pictures == len(pairs) else "groups of pairs"
        raise UserError(f"prompt set {where}: {pictures} {kind}, at least {PAIRS_PER_HEAD} are needed")
    return PromptSet(name, str(content.get("description", "")), tuple(pairs))


def completion_head(pairs: tuple[ExamplePair, ...], template: Template = "plain") -> Head:
    """Build a head for a base model: the instruction, then a line `source => target` for each pair.

    `reference` is the layout of `rewrite/llama_rewrite.py` in github.com/LijieFan/LaCLIP, byte for byte: blank lines
    between all lines, and an indent before every line but the first. That code keeps runs of spaces in the caption;
    here `clean_caption` applies to both layouts.
    """
    lines = [f"{pair.source} {SEPARATOR} {pair.target}" for pair in pairs]
    if template == "reference":
        before = f"\n\n{REFERENCE_INDENT}".join([REFERENCE_INSTRUCTION, *lines, ""])
    else:
        before = "\n".join([INSTRUCTION, "", *lines, ""])
    return Head(pairs, before, f" {SEPARATOR}")


def chat_head(pairs: tuple[ExamplePair, ...], apply_chat_template: Callable[[Messages], str]) -> Head:
    """Build a head for an instruct model.

    The conversation is the system text, a user turn (source) and an assistant turn (target) for each pair, and a user
    turn with the caption. If the template does not support a system text, the text opens the first user turn. The head
    ends where the answer begins: it opens no block of thoughts, for which a rewrite's tokens would not be enough.

    Args:
        pairs: the example pairs.
        apply_chat_template: turns a conversation into the text that the model continues (`chat_template_of`).

    Raises:
        UserError: the template refuses the conversation, or drops or alters a part of it.
    """
    problem = ""
    for system_turn in (True, False):
        messages = _chat_messages(pairs, _SENTINEL, system_turn)
        try:
            text = apply_chat_template(messages)
        except (jinja2.TemplateError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            problem = f"refuses the conversation: {error}"
            continue
        # Templates trim turns, so the search ignores outer spaces.
        lost = [turn for turn in messages if turn["content"].strip() not in text]
        if lost:
            problem = f"drops or alters a turn of the role {lost[-1]['role']!r}"
        elif text.count(_SENTINEL) > 1:
            problem = "shows the caption more than once"
        else:
            before, _, after = text.partition(_SENTINEL)
            return Head(pairs, before, _up_to_answer(before, after, pairs[-1]))
    raise UserError(
        f"rewrite.mode=chat: the model's chat template {problem}; use another model, or rewrite.mode=completion"
    )


def _up_to_answer(before: str, after: str, last_pair: ExamplePair) -> str:
    """The text behind the caption, up to where the model's answer begins.

    Some templates begin an answer in the examples with more than they give the model (gpt-oss: the answer's channel),
    and some give the model an open block of thoughts, whatever their settings say (QwQ, DeepSeek-R1).
    """
    end = before.rfind(last_pair.target.strip())
    source = last_pair.source.strip()
    start = before.rfind(source, 0, end) + len(source)
    example = before[start:end]
    if example.startswith(after) and example[len(after) :].strip():
        after = example
    if closing := closing_tag(after):
        after += f"\n{closing}\n\n" if after.endswith("\n") else closing
    return after


def _chat_messages(pairs: tuple[ExamplePair, ...], caption: str, system_turn: bool) -> Messages:
    turns = [text for pair in pairs for text in (pair.source, pair.target)] + [caption]
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(turns)]
    if system_turn:
        return [{"role": "system", "content": CHAT_INSTRUCTION}, *messages]
    first, *others = messages
    return [{"role": "user", "content": f"{CHAT_INSTRUCTION}\n\n{first['content']}"}, *others]


def chat_template_of(tokenizer: Any) -> Callable[[Messages], str]:
    """The chat template of a transformers tokenizer, with the model's thinking mode switched off.

    The text includes the template's special tokens, so the engine must not add any when it tokenizes the prompt.
    """

    def apply_chat_template(messages: Messages) -> str:
        try:
            return str(tokenizer.apply_chat_template(messages, tokenize=False, **CHAT_TEMPLATE_SETTINGS))
        except ValueError as error:  # no template at all; a template refuses a conversation by jinja2's errors
            raise UserError(
                f"rewrite.mode=chat: the model's tokenizer applies no chat template; use rewrite.mode=completion "
                f"for a base model: {error}"
            ) from error

    return apply_chat_template


def choose_head(prompt_set_name: str, sample_id: str, count: int, seed: int) -> int:
    """Choose one of `count` heads for the sample `sample_id`, uniformly over ids."""
    return hash64("choose_head", seed, prompt_set_name, sample_id) % count


def clean_caption(caption: str) -> str:
    """Turn a caption into one line that cannot be mistaken for the prompt's own structure.

    Runs of whitespace, line breaks included, become one space. The separator becomes `->`. The stored caption does not
    change: training shows the original.
    """
    return " ".join(caption.split()).replace(SEPARATOR, "->")


def prompt_texts(mode: PromptMode, template: Template) -> tuple[str, ...]:
    """The instructions of the prompts, which a rewrite must not echo."""
    if mode == "chat":
        return (CHAT_INSTRUCTION,)
    return (REFERENCE_INSTRUCTION if template == "reference" else INSTRUCTION,)


def template_description(mode: PromptMode, template: Template) -> dict[str, Any]:
    """Describe the prompt format as JSON, for a recipe's fingerprint.

    The description contains a prompt for named blanks, built by the code that builds real prompts, so every change of
    the format changes it. A model's own chat template is not included: it belongs to the model's revision.
    """
    blanks = tuple(ExamplePair(f"{{source {n}}}", f"{{target {n}}}") for n in range(1, PAIRS_PER_HEAD + 1))
    cleaning = {"cleaned_caption": clean_caption(" a\n\t b => c ")}
    if mode == "chat":
        return {
            "mode": mode,
            "messages": _chat_messages(blanks, "{caption}", system_turn=True),
            "messages_without_system": _chat_messages(blanks, "{caption}", system_turn=False),
            "settings": dict(CHAT_TEMPLATE_SETTINGS),
            "closed_thinking": _up_to_answer("", "<think>\n", blanks[-1]),
            **cleaning,
        }
    return {
        "mode": mode,
        "separator": SEPARATOR,
        "prompt": str(completion_head(blanks, template).prompt("{caption}")),
        **cleaning,
    }
