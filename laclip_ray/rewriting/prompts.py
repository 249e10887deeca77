"""Prompts for caption rewriting: an instruction, three example pairs, then the caption to rewrite.

In-context rewriting as in LaCLIP (Fan et al., NeurIPS 2023, section 3.2): the model is shown three captions with a
rewrite of each, then the caption. A base model continues the last of a few `source => target` lines
(`completion_heads`); an instruct model sees the same pairs as turns of a conversation (`chat_heads`).

The paper draws three random pairs for each caption; here a prompt set has a fixed number of *heads* (all of the prompt
before the caption), and a caption's head is chosen by a hash of its id and the set. Few heads let the engine's prefix
cache hold every one of them; variety comes from sampling and from the sets.

Guarantees: everything here is a pure function, but for the chat template that the caller brings; a caption is always
one line of its prompt, whatever it holds, and stands between a head's two fixed texts.
Not covered: a model's control tokens written out in a caption (`<|im_end|>`) are left to its tokenizer.
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
from laclip_ray.randomness import hash64

PAIRS_PER_HEAD = 3
SEPARATOR = "=>"
INSTRUCTION = "Rewrite each image caption in other words. Say what it says, and add nothing that it does not."
REFERENCE_INSTRUCTION = "write image captions differently,"
"""First line of the prompts of the paper's code."""
REFERENCE_INDENT = " " * 12
"""What the lines below it begin with: there the prompt is a string over several lines of an indented block."""
CHAT_INSTRUCTION = (
    "You rewrite image captions. Every message is the caption of one picture. Answer with a caption that says the "
    "same in other words and adds nothing to it. Write that caption alone, on one line, without quotes or remarks."
)
CHAT_TEMPLATE_SETTINGS: dict[str, Any] = {"add_generation_prompt": True, "enable_thinking": False}
"""What a chat template is told; one that knows no thinking ignores the switch."""
BUILT_IN_DIRECTORY = Path(__file__).parent / "prompt_sets"


@dataclass(frozen=True)
class ExamplePair:
    """A caption and one way to rewrite it, shown to the model as a line `source => target`."""

    source: str
    target: str


@dataclass(frozen=True)
class PromptSet:
    """A named list of example pairs in one style."""

    name: str
    description: str
    pairs: tuple[ExamplePair, ...]


@dataclass(frozen=True)
class Head:
    """What stands around the caption in a prompt."""

    pairs: tuple[ExamplePair, ...]
    before: str
    """The same for every caption with this head, so that an engine's prefix cache holds it."""
    after: str

    def prompt(self, caption: str) -> str:
        """The whole prompt for `caption`, which the model continues with the rewrite."""
        return f"{self.before}{clean_caption(caption)}{self.after}"


Messages = list[dict[str, str]]


def built_in_prompt_sets() -> list[str]:
    """Names of the prompt sets that come with the package."""
    return sorted(path.stem for path in BUILT_IN_DIRECTORY.glob("*.yaml"))


def load_prompt_set(name_or_path: str) -> PromptSet:
    """Read a prompt set by its built-in name or from a YAML file.

    Raises:
        UserError: there is no such set, or the file does not hold one; the message says which part is wrong.
    """
    path = BUILT_IN_DIRECTORY / f"{name_or_path}.yaml"
    if name_or_path not in built_in_prompt_sets():
        path = Path(name_or_path)
        if not path.is_file():
            raise UserError(
                f"rewrite.prompt_sets: {name_or_path!r} is neither a built-in prompt set "
                f"({', '.join(built_in_prompt_sets())}) nor a YAML file"
            )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"prompt set {path}: not readable as YAML: {error}") from error
    return parse_prompt_set(content, default_name=path.stem, where=str(path))


def parse_prompt_set(content: object, default_name: str, where: str) -> PromptSet:
    """The prompt set that a YAML file's content describes; texts are kept as they are written.

    Raises:
        UserError: it describes none; the message names the part and begins with `where`.
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
        pairs.append(ExamplePair(str(texts[0]), str(texts[1])))
    if len(pairs) < PAIRS_PER_HEAD:
        raise UserError(f"prompt set {where}: {len(pairs)} pairs, at least {PAIRS_PER_HEAD} are needed")
    return PromptSet(name, str(content.get("description", "")), tuple(pairs))


def head_pairs(prompt_set: PromptSet, count: int, seed: int) -> tuple[tuple[ExamplePair, ...], ...]:
    """Three distinct pairs for each of `count` heads; a function of the arguments alone."""

    def pairs(index: int) -> tuple[ExamplePair, ...]:
        order = sorted(
            range(len(prompt_set.pairs)), key=lambda pair: hash64("head", seed, prompt_set.name, index, pair)
        )
        return tuple(prompt_set.pairs[pair] for pair in order[:PAIRS_PER_HEAD])

    return tuple(pairs(index) for index in range(count))


def completion_head(pairs: tuple[ExamplePair, ...], template: Template = "plain") -> Head:
    """The head for a base model: the instruction, then a line `source => target` for each pair.

    `reference` is the layout of `rewrite/llama_rewrite.py` in github.com/LijieFan/LaCLIP, byte for byte: a blank line
    between any two lines, and an indent before all of them but the first. That code keeps runs of spaces in the
    caption; here `clean_caption` applies to either layout.
    """
    lines = [f"{pair.source} {SEPARATOR} {pair.target}" for pair in pairs]
    if template == "reference":
        before = f"\n\n{REFERENCE_INDENT}".join([REFERENCE_INSTRUCTION, *lines, ""])
    else:
        before = "\n".join([INSTRUCTION, "", *lines, ""])
    return Head(pairs, before, f" {SEPARATOR}")


def completion_heads(prompt_set: PromptSet, count: int, seed: int, template: Template = "plain") -> tuple[Head, ...]:
    """The `count` heads of a prompt set for a base model."""
    return tuple(completion_head(pairs, template) for pairs in head_pairs(prompt_set, count, seed))


def chat_heads(
    prompt_set: PromptSet, count: int, seed: int, apply_chat_template: Callable[[Messages], str]
) -> tuple[Head, ...]:
    """The `count` heads of a prompt set for an instruct model.

    The conversation is the system text, a user turn (source) and an assistant turn (target) for each pair, and a user
    turn with the caption. Where the template has no place for a system text, it opens the first user turn.

    Args:
        apply_chat_template: gives a conversation as the text that the model continues (`chat_template_of`).

    Raises:
        UserError: the template refuses the conversation, or does not show all of it as it is.
    """
    return tuple(_chat_head(pairs, apply_chat_template) for pairs in head_pairs(prompt_set, count, seed))


_SENTINEL = "Caption \u27e67c1e\u27e7 & <b>'so'</b>, \"S\u00f6\" \\ 100 % {{x}} | #1"
"""Stands for the caption where a head is split: what a template may escape, fold or strip of a caption shows in it."""


def _chat_head(pairs: tuple[ExamplePair, ...], apply_chat_template: Callable[[Messages], str]) -> Head:
    problem = ""
    for system_turn in (True, False):
        messages = _chat_messages(pairs, _SENTINEL, system_turn)
        try:
            text = apply_chat_template(messages)
        except jinja2.TemplateError as error:
            problem = f"refuses the conversation: {error}"
            continue
        # Templates trim turns, so a text is looked for without its outer spaces.
        lost = [turn for turn in messages if turn["content"].strip() not in text]
        if lost:
            problem = f"drops or alters a turn of the role {lost[-1]['role']!r}"
        elif text.count(_SENTINEL) > 1:
            problem = "shows the caption more than once"
        else:
            before, _, after = text.partition(_SENTINEL)
            return Head(pairs, before, after)
    raise UserError(
        f"rewrite.mode=chat: the model's chat template {problem}; use another model, or rewrite.mode=completion"
    )


def _chat_messages(pairs: tuple[ExamplePair, ...], caption: str, system_turn: bool) -> Messages:
    turns = [text for pair in pairs for text in (pair.source, pair.target)] + [caption]
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(turns)]
    if system_turn:
        return [{"role": "system", "content": CHAT_INSTRUCTION}, *messages]
    first, *others = messages
    return [{"role": "user", "content": f"{CHAT_INSTRUCTION}\n\n{first['content']}"}, *others]


def chat_template_of(tokenizer: Any) -> Callable[[Messages], str]:
    """The chat template of a transformers tokenizer, with thinking switched off where the model has it.

    The text holds the special tokens that the template writes, so an engine must add none when it tokenizes it.
    """

    def apply_chat_template(messages: Messages) -> str:
        try:
            return str(tokenizer.apply_chat_template(messages, tokenize=False, **CHAT_TEMPLATE_SETTINGS))
        except ValueError as error:  # the tokenizer has no template; a template's own refusals are jinja2's errors
            raise UserError(
                f"rewrite.mode=chat: the model's tokenizer applies no chat template; use rewrite.mode=completion "
                f"for a base model: {error}"
            ) from error

    return apply_chat_template


def choose_head(prompt_set_name: str, sample_id: str, count: int, seed: int) -> int:
    """Which of `count` heads the sample `sample_id` gets; uniform over ids."""
    return hash64("choose_head", seed, prompt_set_name, sample_id) % count


def clean_caption(caption: str) -> str:
    """The caption as one line that cannot be mistaken for the prompt's own structure.

    Runs of whitespace (line breaks too) become one space and the separator becomes `->`. The stored caption is
    not touched: training shows the original as it is.
    """
    return " ".join(caption.split()).replace(SEPARATOR, "->")


_QUOTED = re.compile(r"""["\u201c\u201d\u201e\u00ab]([^"\u201c\u201d\u201e\u00ab\u00bb]*)["\u201c\u201d\u00bb]""")


def parse_completion(completion: str) -> str:
    """The rewrite in what the model wrote: its first line, stripped.

    Double quotes around all of the line, with none inside, are an instruct model's habit and are taken off. What
    else it says beside the rewrite is the gate's to reject.
    """
    line = completion.strip().partition("\n")[0].strip()
    quoted = _QUOTED.fullmatch(line)
    return quoted[1].strip() if quoted else line


def prompt_texts(mode: PromptMode, template: Template) -> tuple[str, ...]:
    """The instructions that the model is shown, which a rewrite must not echo."""
    if mode == "chat":
        return (CHAT_INSTRUCTION,)
    return (REFERENCE_INSTRUCTION if template == "reference" else INSTRUCTION,)


def template_description(mode: PromptMode, template: Template) -> dict[str, Any]:
    """All of the format that decides what the model is asked, as JSON for a recipe's fingerprint.

    It is a prompt for named blanks, made by the code that makes prompts, so that no change of format can leave it
    as it was. A model's own chat template is not part of it: it belongs to the model's revision.
    """
    blanks = tuple(ExamplePair(f"{{source {n}}}", f"{{target {n}}}") for n in range(1, PAIRS_PER_HEAD + 1))
    cleaning = {"cleaned_caption": clean_caption(" a\n\t b => c ")}
    if mode == "chat":
        return {
            "mode": mode,
            "messages": _chat_messages(blanks, "{caption}", system_turn=True),
            "messages_without_system": _chat_messages(blanks, "{caption}", system_turn=False),
            "settings": dict(CHAT_TEMPLATE_SETTINGS),
            **cleaning,
        }
    return {
        "mode": mode,
        "separator": SEPARATOR,
        "prompt": completion_head(blanks, template).prompt("{caption}"),
        **cleaning,
    }
