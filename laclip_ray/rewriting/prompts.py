"""Prompts for caption rewriting: an instruction, three example pairs, then the caption to rewrite.

In-context rewriting as in LaCLIP (Fan et al., NeurIPS 2023, section 3.2): a language model continues the last of
a few `source => target` lines. The paper draws three random pairs for each caption; here a prompt set has a fixed
number of *heads* (instruction and three pairs), and a caption's head is chosen by a hash of its id and the set.
Few heads let the engine's prefix cache hold every one of them; variety comes from sampling and from the sets.

Guarantees: everything here is a pure function; a prompt is always one line a pair, whatever the caption holds.
Not covered: chat models (their template is applied by the engine).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from laclip_ray.errors import UserError
from laclip_ray.randomness import hash64

PAIRS_PER_HEAD = 3
SEPARATOR = "=>"
INSTRUCTION = "Rewrite each image caption in other words. Say what it says, and add nothing that it does not."
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
    return _parse_prompt_set(content, default_name=path.stem, where=str(path))


def _parse_prompt_set(content: object, default_name: str, where: str) -> PromptSet:
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
            if "\n" in text or SEPARATOR in text:
                raise UserError(f"prompt set {where}: pairs[{number}] holds a line break or {SEPARATOR!r}")
        pairs.append(ExamplePair(str(texts[0]).strip(), str(texts[1]).strip()))
    if len(pairs) < PAIRS_PER_HEAD:
        raise UserError(f"prompt set {where}: {len(pairs)} pairs, at least {PAIRS_PER_HEAD} are needed")
    return PromptSet(name, str(content.get("description", "")), tuple(pairs))


def build_head(pairs: tuple[ExamplePair, ...]) -> str:
    """The part of the prompt before the caption: instruction and one line a pair, ending with a line break."""
    lines = [INSTRUCTION, "", *(f"{pair.source} {SEPARATOR} {pair.target}" for pair in pairs)]
    return "\n".join(lines) + "\n"


def head_pairs(prompt_set: PromptSet, count: int, seed: int) -> tuple[tuple[ExamplePair, ...], ...]:
    """Three distinct pairs for each of `count` heads; a function of the arguments alone."""

    def pairs(index: int) -> tuple[ExamplePair, ...]:
        order = sorted(
            range(len(prompt_set.pairs)), key=lambda pair: hash64("head", seed, prompt_set.name, index, pair)
        )
        return tuple(prompt_set.pairs[pair] for pair in order[:PAIRS_PER_HEAD])

    return tuple(pairs(index) for index in range(count))


def build_heads(prompt_set: PromptSet, count: int, seed: int) -> tuple[str, ...]:
    """The `count` heads of a prompt set, as text."""
    return tuple(build_head(pairs) for pairs in head_pairs(prompt_set, count, seed))


def choose_head(prompt_set_name: str, sample_id: str, count: int, seed: int) -> int:
    """Which of `count` heads the sample `sample_id` gets; uniform over ids."""
    return hash64("choose_head", seed, prompt_set_name, sample_id) % count


def clean_caption(caption: str) -> str:
    """The caption as one line that cannot be mistaken for the prompt's own structure.

    Runs of whitespace (line breaks too) become one space and the separator becomes `->`. The stored caption is
    not touched: training shows the original as it is.
    """
    return " ".join(caption.split()).replace(SEPARATOR, "->")


def build_prompt(head: str, caption: str) -> str:
    """The whole prompt: `head`, then the cleaned caption and the separator that the model continues after."""
    return f"{head}{clean_caption(caption)} {SEPARATOR}"


def parse_completion(completion: str) -> str:
    """The rewrite in what the model wrote: its first line, stripped."""
    return completion.strip().partition("\n")[0].strip()
