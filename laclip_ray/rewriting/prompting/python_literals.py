"""Read the literals that a Python file assigns at its top level, without running the file.

Guarantees: the file is parsed and never executed. A name that other lines of the file may change has no value here.
Not covered: literals built by operators or calls (`[...] + [...]`, f-strings), and names inside classes or functions.
"""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from laclip_ray.errors import UserError


@dataclass(frozen=True)
class Variable:
    """A name that a file assigns at its top level."""

    line: int
    value: object
    """None if it is not a literal."""
    problem: str | None
    """Why the file may give the name another value at run time. None: it cannot."""


def read_variables(path: str) -> dict[str, Variable]:
    """The names that a file assigns at its top level, in the file's order.

    Raises:
        UserError: the file cannot be read, or is not Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the file's strings
            tree = ast.parse(Path(path).read_bytes(), filename=path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path}: not readable as Python: {error}") from error
    variables: dict[str, Variable] = {}
    changed: dict[str, int] = {}
    for statement in tree.body:
        assigned, expression = _assignment(statement)
        for variable in assigned:
            if variable in variables:
                changed.setdefault(variable, statement.lineno)
            elif expression is not None:
                variables[variable] = _variable(expression, statement.lineno)
        for variable in set(_names_at_risk(statement)) - set(assigned):
            changed.setdefault(variable, statement.lineno)
    for variable, line in changed.items():
        if variable in variables and variables[variable].problem is None:
            first = variables[variable]
            problem = f"line {line} uses or changes it; code is not run, so leave its literal alone"
            variables[variable] = Variable(first.line, first.value, problem)
    return variables


def _assignment(statement: ast.stmt) -> tuple[list[str], ast.expr | None]:
    """The plain names that a statement assigns, and the expression. Other statements give no names."""
    match statement:
        case ast.Assign(targets=targets, value=value) if all(isinstance(target, ast.Name) for target in targets):
            return [target.id for target in targets if isinstance(target, ast.Name)], value
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            return [name], value
    return [], None


def _variable(expression: ast.expr, line: int) -> Variable:
    try:
        return Variable(line, ast.literal_eval(expression), None)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return Variable(line, None, "not a literal: it holds calls, names or operators, and code is not run")


def _names_at_risk(statement: ast.stmt) -> Iterator[str]:
    """Names whose values a statement may change when the file is imported.

    In files of this kind, the bodies of functions, classes and `if __name__ == "__main__"` only read the lists. An
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
