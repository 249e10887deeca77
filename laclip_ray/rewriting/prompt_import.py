"""Prompt sets from Python files that list captions, as the authors of LaCLIP publish theirs.

Three shapes are read: two lists of equal length, sources and targets; a list of groups, each of several captions of one
picture, of which an ordered pair is drawn; a list of (source, target) tuples or {"source": ..., "target": ...} dicts.

Guarantees: the file is parsed and its literals are read, none of it is ever executed, so a list that its code goes on
to change is refused; the YAML that is written loads to the same pairs; draws are functions of the seed and the group's
number.
Not covered: literals put together by operators or calls (`[...] + [...]`, f-strings), and lists inside classes or
functions.
"""

import ast
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.randomness import hash64
from laclip_ray.rewriting.prompts import (
    SEPARATOR,
    ExamplePair,
    PromptSet,
    built_in_prompt_sets,
    clean_caption,
    parse_prompt_set,
)

Shape = Literal["texts", "groups", "pairs"]


@dataclass(frozen=True)
class Selection:
    """Which of a file's lists make the prompt set: `source` and `target`, or one of the others."""

    source: str | None = None
    target: str | None = None
    groups: str | None = None
    pairs: str | None = None

    def names(self) -> dict[str, str]:
        """The names that are set, by option."""
        return {option: name for option, name in vars(self).items() if name is not None}

    def options(self) -> str:
        """The selection as it is written on the command line."""
        return " ".join(f"--{option} {name}" for option, name in self.names().items())


@dataclass(frozen=True)
class ImportedPrompts:
    """A prompt set that was read, and what had to be done to its texts."""

    prompt_set: PromptSet
    joined_texts: int
    """Texts of several lines, which are one line now."""


@dataclass(frozen=True)
class _Variable:
    """What a file assigns to a name at its top level."""

    line: int
    value: object
    """None where it is not a literal."""
    problem: str | None
    """Why the value cannot be relied on."""


def import_prompt_set(
    path: str,
    selection: Selection,
    output: str | None = None,
    name: str | None = None,
    seed: int = 0,
    force: bool = False,
) -> tuple[ImportedPrompts, Path]:
    """Read a prompt set from a Python file and write it as YAML; returns it with the place.

    Args:
        path: the Python file.
        selection: the lists to take; an empty one takes what there is, if that is clear.
        output: the YAML file. None: in the current directory, by the set's name.
        name: the set's name. None: from the lists' names, else the file's.
        seed: decides the pairs drawn from groups.
        force: whether a file at `output` is replaced.

    Raises:
        UserError: the file cannot be read, does not hold what was selected, or the output is refused.
    """
    imported = read_prompt_set(path, selection, name, seed)
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


def read_prompt_set(path: str, selection: Selection, name: str | None = None, seed: int = 0) -> ImportedPrompts:
    """The prompt set in a Python file; see `import_prompt_set`."""
    variables = _read_variables(path)
    selection = _complete(selection, variables, path)
    values = {option: _value(variables, variable, path) for option, variable in selection.names().items()}
    reader = _TextReader(path)
    description = f"Imported from {Path(path).name}: {', '.join(selection.names().values())}."
    if selection.groups is not None:
        pairs = _draw_pairs(reader.groups(values["groups"], selection.groups), selection.groups, path, seed)
        description += f" An ordered pair of each group, drawn with seed {seed}."
    elif selection.pairs is not None:
        pairs = reader.pairs(values["pairs"], selection.pairs)
    else:
        pairs = _join(reader, values, selection, path)
    set_name = name or _name_from(selection, path)
    if set_name in built_in_prompt_sets():
        raise UserError(f"{path}: {set_name!r} is the name of a built-in prompt set; choose another with --name")
    content = {
        "name": set_name,
        "description": description,
        "pairs": [{"source": pair.source, "target": pair.target} for pair in pairs],
    }
    return ImportedPrompts(parse_prompt_set(content, default_name=set_name, where=path), reader.joined_texts)


def prompt_set_yaml(prompt_set: PromptSet) -> str:
    """The YAML file of a prompt set, which `load_prompt_set` reads back to an equal one."""
    content = {
        "name": prompt_set.name,
        "description": prompt_set.description,
        "pairs": [{"source": pair.source, "target": pair.target} for pair in prompt_set.pairs],
    }
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=sys.maxsize)
    return text


def _read_variables(path: str) -> dict[str, _Variable]:
    """The names that the file assigns at its top level, in its order."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the file's own escapes
            tree = ast.parse(Path(path).read_bytes(), filename=path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path}: not readable as Python: {error}") from error
    variables: dict[str, _Variable] = {}
    changed: dict[str, int] = {}
    for statement in tree.body:
        assigned, expression = _assignment(statement)
        for variable in assigned:
            if variable in variables:
                changed.setdefault(variable, statement.lineno)
            elif expression is not None:
                variables[variable] = _variable(expression, statement.lineno)
        for variable in set(_mentioned(statement)) - set(assigned):
            changed.setdefault(variable, statement.lineno)
    for variable, line in changed.items():
        if variable in variables and variables[variable].problem is None:
            first = variables[variable]
            problem = f"line {line} uses or changes it; code is not run, so leave its literal alone"
            variables[variable] = _Variable(first.line, first.value, problem)
    return variables


def _assignment(statement: ast.stmt) -> tuple[list[str], ast.expr | None]:
    """The plain names that a statement assigns, and the expression; none for any other statement."""
    match statement:
        case ast.Assign(targets=targets, value=value) if all(isinstance(target, ast.Name) for target in targets):
            return [target.id for target in targets if isinstance(target, ast.Name)], value
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            return [name], value
    return [], None


def _variable(expression: ast.expr, line: int) -> _Variable:
    try:
        return _Variable(line, ast.literal_eval(expression), None)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _Variable(line, None, "not a literal: it holds calls, names or operators, and code is not run")


def _mentioned(statement: ast.stmt) -> Iterator[str]:
    """Names that a statement may change when the file is imported.

    Bodies of functions and classes and the part for the command line only read the lists, in files of this kind; an
    assertion cannot change one.
    """
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from ((alias.asname or alias.name).partition(".")[0] for alias in aliases)
        case ast.Assert() | ast.AnnAssign(value=None):
            pass
        case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
            pass
        case _:
            yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name))


def _value(variables: dict[str, _Variable], name: str, path: str) -> object:
    if name not in variables:
        raise UserError(f"{path}: nothing is assigned to `{name}` at its top level; {_inventory(variables)}")
    variable = variables[name]
    if variable.problem is not None:
        raise UserError(f"{path}: line {variable.line}: `{name}`: {variable.problem}")
    return variable.value


def _complete(selection: Selection, variables: dict[str, _Variable], path: str) -> Selection:
    """The selection, or the only one that the file's names and shapes allow."""
    if (selection.source is None) != (selection.target is None):
        raise UserError("--source and --target belong together: give both")
    if len(selection.names()) > (1 if selection.source is None else 2):
        raise UserError("choose one of --source with --target, --groups, and --pairs")
    if selection.names():
        return selection
    choices = _choices(variables)
    if not choices:
        raise UserError(
            f"{path}: found no lists named as source and target, no list of groups of captions and no list of pairs "
            f"at its top level; {_inventory(variables)}. Choose with --source NAME --target NAME, --groups NAME or "
            "--pairs NAME"
        )
    if len(choices) > 1:
        options = "; ".join(choice.options() for choice in choices)
        raise UserError(f"{path}: holds {len(choices)} prompt sets; choose one: {options}")
    return choices[0]


def _choices(variables: dict[str, _Variable]) -> list[Selection]:
    """All prompt sets that the file may hold, in its order."""
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
    """What a list seems to be, by its first entry."""
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


def _inventory(variables: dict[str, _Variable]) -> str:
    """What the file assigns, for a message."""

    def words(variable: _Variable) -> str:
        if variable.value is None and variable.problem is not None:
            return "not a literal"
        shape = _shape(variable.value)
        return f"list of {shape}" if shape else type(variable.value).__name__

    found = ", ".join(f"`{name}` (line {item.line}: {words(item)})" for name, item in variables.items())
    return f"found {found or 'no assignments'}"


class _TextReader:
    """Checks texts by their place in the file, and counts those that had to be joined into one line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.joined_texts = 0

    def text(self, value: Any, place: str) -> str:
        """One caption as a prompt can show it: as it is, but for line breaks, which become spaces."""
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{self.path}: {place} is not a text, or an empty one: {value!r}")
        if SEPARATOR in value:
            raise UserError(
                f"{self.path}: {place} holds {SEPARATOR!r}, which stands between source and target: {value!r}"
            )
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{self.path}: {place} holds half of a surrogate pair: {value!r}") from error
        lines = value.splitlines()
        if lines == [value]:
            return value
        self.joined_texts += 1
        return " ".join(line.strip() for line in lines if line.strip())

    def texts(self, value: object, name: str) -> list[str]:
        """A list of captions."""
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{self.path}: `{name}` is not a list")
        return [self.text(item, f"{name}[{number}]") for number, item in enumerate(value)]

    def groups(self, value: object, name: str) -> list[list[str]]:
        """A list of lists of captions."""
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{self.path}: `{name}` is not a list of groups of captions")
        return [self.texts(group, f"{name}[{number}]") for number, group in enumerate(value)]

    def pairs(self, value: object, name: str) -> list[ExamplePair]:
        """A list of pairs, as sequences of two or dicts."""
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{self.path}: `{name}` is not a list of pairs")
        pairs = []
        for number, entry in enumerate(value):
            place = f"{name}[{number}]"
            match entry:
                case {"source": source, "target": target}:
                    pass
                case [source, target]:
                    pass
                case _:
                    raise UserError(f"{self.path}: {place} is neither (source, target) nor a dict of both: {entry!r}")
            pairs.append(ExamplePair(self.text(source, f"{place} source"), self.text(target, f"{place} target")))
        return pairs


def _join(reader: _TextReader, values: dict[str, object], selection: Selection, path: str) -> list[ExamplePair]:
    assert selection.source is not None
    assert selection.target is not None
    sources = reader.texts(values["source"], selection.source)
    targets = reader.texts(values["target"], selection.target)
    if len(sources) != len(targets):
        raise UserError(
            f"{path}: `{selection.source}` has {len(sources)} captions and `{selection.target}` has {len(targets)}; "
            "they are paired by position, so they need as many"
        )
    return [ExamplePair(source, target) for source, target in zip(sources, targets, strict=True)]


def _draw_pairs(groups: list[list[str]], name: str, path: str, seed: int) -> list[ExamplePair]:
    """Of each group two captions that differ, in a drawn order; every ordered pair is as likely."""
    pairs = []
    for number, group in enumerate(groups):
        # Captions that differ by spaces alone are one.
        captions = list({clean_caption(caption): caption for caption in reversed(group)}.values())[::-1]
        if len(captions) < 2:
            raise UserError(f"{path}: {name}[{number}] needs two captions that differ to draw a pair from")
        draw = hash64("pair of a group", seed, number) % (len(captions) * (len(captions) - 1))
        first, second = divmod(draw, len(captions) - 1)
        pairs.append(ExamplePair(captions[first], captions[second + (second >= first)]))
    return pairs


_COMMON_WORDS = frozenset(
    f"{word}{plural}"
    for word in ("source", "target", "caption", "group", "pair", "list", "text", "example")
    for plural in ("", "s")
)


def _name_from(selection: Selection, path: str) -> str:
    """What tells the lists apart in the authors' naming (`bard_source_caption_list`), else the file's name."""
    variable = selection.source or selection.groups or selection.pairs or ""
    words = [word for word in variable.lower().split("_") if word not in _COMMON_WORDS]
    return "_".join(filter(None, words)) or Path(path).stem
