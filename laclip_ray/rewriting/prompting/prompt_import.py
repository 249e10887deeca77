"""Import prompt sets from Python files that list captions, as LaCLIP's authors publish them.

Three shapes are supported:
- texts: two lists of equal length, sources and targets;
- groups: a list of lists, each with several captions of one picture; an ordered pair of each is drawn, or all ordered
  pairs are taken, and a prompt never shows two pairs of one group;
- pairs: a list of (source, target) tuples or {"source": ..., "target": ...} dicts.

Guarantees: the file is parsed and never executed, and a list that its code changes later is refused
(`python_literals`). The written YAML loads to the same pairs. Draws are functions of the seed and the group's number.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import yaml

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.prompting.prompts import (
    SEPARATOR,
    ExamplePair,
    PromptSet,
    built_in_prompt_sets,
    clean_caption,
    parse_prompt_set,
)
from laclip_ray.rewriting.prompting.python_literals import Variable, read_variables

Shape = Literal["texts", "groups", "pairs"]

_COMMON_WORDS = frozenset(
    f"{word}{plural}"
    for word in ("source", "target", "caption", "group", "pair", "list", "text", "example")
    for plural in ("", "s")
)
"""Words of a list's name that do not tell one prompt set from another."""


@dataclass(frozen=True)
class Selection:
    """Names of the lists that make the prompt set: `source` and `target`, or `groups`, or `pairs`."""

    source: str | None = None
    target: str | None = None
    groups: str | None = None
    pairs: str | None = None

    def names(self) -> dict[str, str]:
        """The selected names, by option."""
        return {option: name for option, name in vars(self).items() if name is not None}

    def options(self) -> str:
        """The selection as command-line options."""
        return " ".join(f"--{option} {name}" for option, name in self.names().items())


@dataclass(frozen=True)
class ImportedPrompts:
    """An imported prompt set."""

    prompt_set: PromptSet
    joined_texts: int
    """Number of texts whose lines were joined into one."""


def import_prompt_set(
    path: str,
    selection: Selection,
    output: str | None = None,
    name: str | None = None,
    seed: int = 0,
    force: bool = False,
    all_pairs: bool = False,
) -> tuple[ImportedPrompts, Path]:
    """Read a prompt set from a Python file and write it as YAML.

    Args:
        path: the Python file.
        selection: the lists to take. An empty selection takes the only prompt set in the file.
        output: the YAML file. None: in the current directory, named after the set.
        name: the set's name. None: from the lists' names, else the file's name.
        seed: decides the pairs drawn from groups.
        force: replace an existing file at `output`.
        all_pairs: take every ordered pair of each group, as the paper's code can draw them, instead of one.

    Returns:
        The prompt set and the YAML file.

    Raises:
        UserError: the file cannot be read, lacks the selected lists, or the output is refused.
    """
    imported = read_prompt_set(path, selection, name, seed, all_pairs)
    target = Path(output if output is not None else f"{imported.prompt_set.name}.yaml")
    if target.suffix not in (".yaml", ".yml"):
        raise UserError(f"--output {target}: the name of a prompt set's file ends with .yaml or .yml")
    if target.exists() and not (force and target.is_file()):
        raise UserError(f"{target} exists; choose another --output, or replace a file with --force")
    try:
        storage.write_bytes(str(target), prompt_set_yaml(imported.prompt_set).encode())
    except OSError as error:
        raise UserError(f"{target}: cannot be written: {error}") from error
    return imported, target


def read_prompt_set(
    path: str, selection: Selection, name: str | None = None, seed: int = 0, all_pairs: bool = False
) -> ImportedPrompts:
    """Read a prompt set from a Python file; see `import_prompt_set` for the arguments."""
    variables = read_variables(path)
    selection = _complete(selection, variables, path)
    values = {option: _value(variables, variable, path) for option, variable in selection.names().items()}
    reader = _TextReader(path)
    description = f"Imported from {Path(path).name}: {', '.join(selection.names().values())}."
    if all_pairs and selection.groups is None:
        raise UserError(f"{path}: --all-pairs takes every pair of groups of captions; choose a list by --groups NAME")
    if selection.groups is not None:
        groups = _distinct_captions(reader.groups(values["groups"], selection.groups), selection.groups, path)
        pairs = _all_pairs(groups) if all_pairs else _draw_pairs(groups, seed)
        drawn = "All ordered pairs" if all_pairs else "An ordered pair"
        description += f" {drawn} of each group" + ("." if all_pairs else f", drawn with seed {seed}.")
    elif selection.pairs is not None:
        pairs = reader.pairs(values["pairs"], selection.pairs)
    else:
        pairs = _pair_up(reader, values, selection, path)
    set_name = name or _name_from(selection, path)
    if set_name in built_in_prompt_sets():
        raise UserError(f"{path}: {set_name!r} is the name of a built-in prompt set; choose another with --name")
    content = _content_of(PromptSet(set_name, description, tuple(pairs)))
    return ImportedPrompts(parse_prompt_set(content, default_name=set_name, where=path), reader.joined_texts)


def prompt_set_yaml(prompt_set: PromptSet) -> str:
    """Format a prompt set as YAML that `load_prompt_set` reads back unchanged."""
    text: str = yaml.safe_dump(_content_of(prompt_set), sort_keys=False, allow_unicode=True, width=sys.maxsize)
    return text


def _content_of(prompt_set: PromptSet) -> dict[str, object]:
    return {
        "name": prompt_set.name,
        "description": prompt_set.description,
        "pairs": [
            {"source": pair.source, "target": pair.target} | ({} if pair.group is None else {"group": pair.group})
            for pair in prompt_set.pairs
        ],
    }


def _value(variables: dict[str, Variable], name: str, path: str) -> object:
    if name not in variables:
        raise UserError(f"{path}: the top level assigns no `{name}`; {_inventory(variables)}")
    variable = variables[name]
    if variable.problem is not None:
        raise UserError(f"{path}: line {variable.line}: `{name}`: {variable.problem}")
    return variable.value


def _complete(selection: Selection, variables: dict[str, Variable], path: str) -> Selection:
    """Return the selection, or the only possible one if it is empty."""
    if (selection.source is None) != (selection.target is None):
        raise UserError("--source and --target belong together: give both")
    if len(selection.names()) > (1 if selection.source is None else 2):
        raise UserError("choose one of --source with --target, --groups, and --pairs")
    if selection.names():
        return selection
    choices = _choices(variables)
    if not choices:
        raise UserError(
            f"{path}: the top level has no lists named source and target, no list of groups of captions and no list of "
            f"pairs; {_inventory(variables)}. Choose with --source NAME --target NAME, --groups NAME or "
            "--pairs NAME"
        )
    if len(choices) > 1:
        options = "; ".join(choice.options() for choice in choices)
        raise UserError(f"{path}: holds {len(choices)} prompt sets; choose one: {options}")
    return choices[0]


def _choices(variables: dict[str, Variable]) -> list[Selection]:
    """All prompt sets that the file can hold, in the file's order."""
    shapes = {name: _shape(variable.value) for name, variable in variables.items()}
    texts = [name for name, shape in shapes.items() if shape == "texts"]
    partners = {
        source: target
        for source in texts
        for target in texts
        if _has_word("source", source) and source.lower().replace("source", "target") == target.lower()
    }
    taken = {*partners, *partners.values()}
    sources = [name for name in texts if _has_word("source", name) and name not in taken]
    targets = [name for name in texts if _has_word("target", name) and name not in taken]
    if len(sources) == len(targets) == 1 and sources != targets:
        partners[sources[0]] = targets[0]
    choices = []
    for name, shape in shapes.items():
        if name in partners:
            choices.append(Selection(source=name, target=partners[name]))
        elif shape == "groups":
            choices.append(Selection(groups=name))
        elif shape == "pairs":
            choices.append(Selection(pairs=name))
    return choices


def _has_word(word: str, name: str) -> bool:
    return word in name.lower()


def _shape(value: object) -> Shape | None:
    """Guess the shape of a list from its first entry."""
    if not isinstance(value, (list, tuple)) or not value:
        return None
    first = value[0]
    if isinstance(first, str):
        return "texts"
    if isinstance(first, Mapping) and {"source", "target"} <= first.keys():
        return "pairs"
    if isinstance(first, (list, tuple)) and first and isinstance(first[0], str):
        return "pairs" if isinstance(first, tuple) and len(first) == 2 else "groups"
    return None


def _inventory(variables: dict[str, Variable]) -> str:
    """List the file's assignments for a message."""

    def kind(variable: Variable) -> str:
        if variable.value is None and variable.problem is not None:
            return "not a literal"
        shape = _shape(variable.value)
        return f"list of {shape}" if shape else type(variable.value).__name__

    assignments = (f"`{name}` (line {variable.line}: {kind(variable)})" for name, variable in variables.items())
    return f"found {', '.join(assignments) or 'no assignments'}"


class _TextReader:
    """Checks texts, names their position in errors, and counts the texts whose lines it joined."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.joined_texts = 0

    def text(self, value: Any, position: str) -> str:
        """Read one caption. Line breaks become spaces; everything else stays."""
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{self.path}: {position} is not a text, or is empty: {value!r}")
        if SEPARATOR in value:
            raise UserError(f"{self.path}: {position} holds {SEPARATOR!r}, the prompt's separator: {value!r}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{self.path}: {position} holds half of a surrogate pair: {value!r}") from error
        lines = value.splitlines()
        if lines == [value]:
            return value
        self.joined_texts += 1
        return " ".join(line.strip() for line in lines if line.strip())

    def texts(self, value: object, name: str) -> list[str]:
        """Read a list of captions."""
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{self.path}: `{name}` is not a list")
        return [self.text(item, f"{name}[{number}]") for number, item in enumerate(value)]

    def groups(self, value: object, name: str) -> list[list[str]]:
        """Read a list of lists of captions."""
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{self.path}: `{name}` is not a list of groups of captions")
        return [self.texts(group, f"{name}[{number}]") for number, group in enumerate(value)]

    def pairs(self, value: object, name: str) -> list[ExamplePair]:
        """Read a list of pairs, as sequences of two or as dicts."""
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{self.path}: `{name}` is not a list of pairs")
        pairs = []
        for number, entry in enumerate(value):
            position = f"{name}[{number}]"
            match entry:
                case {"source": source, "target": target}:
                    pass
                case [source, target]:
                    pass
                case _:
                    raise UserError(
                        f"{self.path}: {position} is neither (source, target) nor a dict of both: {entry!r}"
                    )
            pairs.append(ExamplePair(self.text(source, f"{position} source"), self.text(target, f"{position} target")))
        return pairs


def _pair_up(reader: _TextReader, values: dict[str, object], selection: Selection, path: str) -> list[ExamplePair]:
    assert selection.source is not None
    assert selection.target is not None
    sources = reader.texts(values["source"], selection.source)
    targets = reader.texts(values["target"], selection.target)
    if len(sources) != len(targets):
        raise UserError(
            f"{path}: `{selection.source}` has {len(sources)} captions and `{selection.target}` has {len(targets)}; "
            "captions are paired by position, so both lists need the same length"
        )
    return [ExamplePair(source, target) for source, target in zip(sources, targets, strict=True)]


def _distinct_captions(groups: list[list[str]], name: str, path: str) -> list[list[str]]:
    """The captions of each group. Captions that differ only by spaces count as one."""
    distinct = []
    for number, group in enumerate(groups):
        captions = list({clean_caption(caption): caption for caption in reversed(group)}.values())[::-1]
        if len(captions) < 2:
            raise UserError(f"{path}: {name}[{number}] needs two captions that differ to draw a pair from")
        distinct.append(captions)
    return distinct


def _draw_pairs(groups: list[list[str]], seed: int) -> list[ExamplePair]:
    """Draw two different captions of each group, in order. All ordered pairs are equally likely."""
    pairs = []
    for number, captions in enumerate(groups):
        draw = hash64("pair of a group", seed, number) % (len(captions) * (len(captions) - 1))
        first, second = divmod(draw, len(captions) - 1)
        pairs.append(ExamplePair(captions[first], captions[second + (second >= first)]))
    return pairs


def _all_pairs(groups: list[list[str]]) -> list[ExamplePair]:
    """Every ordered pair of different captions of each group; a pair knows the number of its group."""
    return [
        ExamplePair(source, target, group=number)
        for number, captions in enumerate(groups)
        for source, target in permutations(captions, 2)
    ]


def _name_from(selection: Selection, path: str) -> str:
    """Name a set by the distinctive words of its list, else by the file: `bard_source_caption_list` gives `bard`."""
    variable = selection.source or selection.groups or selection.pairs or ""
    words = [word for word in variable.lower().split("_") if word not in _COMMON_WORDS]
    return "_".join(filter(None, words)) or Path(path).stem
