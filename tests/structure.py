"""The structure of the package, read from its source: imports, sizes, and who takes a whole experiment."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "laclip_ray"

LAYERS: dict[str, tuple[frozenset[str], ...]] = {
    package: tuple(frozenset(layer.split()) for layer in layers)
    for package, layers in {
        "": (
            "choices errors nearest randomness store_pages intervals tally versions safe_import light_open_clip "
            "printable redaction progress terminal",
            "logs storage reporting",
            "endings creation",
            "config lease ray_start local_outputs node_labels",
            "ownership cluster tracking",
            "data",
            "models",
            "rewriting",
            "training",
            "evaluation",
            "onejob tuning",
            "console status doctor submitting survey live",
            "run_report",
            "demo",
            "cli",
            "__main__ jobs",
        ),
        "rewriting": (
            "tables row_errors prices",
            "prompting",
            "judging",
            "draws recipe",
            "storing",
            "scoring engines",
            "inspection shown_draws",
            "sample_table",
            "running",
            "transfer forecasting",
        ),
    }.items()
}
"""By package ("" is the whole), its parts from the bottom up. A part imports from lower layers, and from itself."""

PURE = (
    "rewriting.prompting.prompts",
    "rewriting.prompting.head_choice",
    "rewriting.engines.work",
    "rewriting.judging.gate",
    "rewriting.tables",
    "rewriting.draws",
    "data.text_choice",
    "data.schedule",
    "data.records",
    "tally",
    "randomness",
    "status.outputs",
    "status.printing",
    "cli.status",
    "run_report.report",
    "cli.report",
    "submitting.package",
    "submitting.identity",
    "submitting.job",
    "submitting.seen_log",
    "submitting.following",
    "cli.submit",
)
"""Modules that import neither Ray, vLLM nor torch, nor anything that does."""


VERBS = (
    "rewriting.running.pipeline",
    "training.run",
    "onejob.run",
    "evaluation.run",
    "evaluation.during",
    "status.outputs",
    "doctor.examination",
)
"""What the verbs call. Ray reads its environment when it is imported, and connecting sets that first. Sweeps are not
among them: `tuning.schedulers` derives its classes from Ray Tune's."""


@dataclass(frozen=True)
class Module:
    """One source file."""

    name: str
    """Below the package: `data.schedule`; of a job: `jobs.rewrite`."""
    path: Path
    tree: ast.Module
    lines: int

    def part_of(self, package: str) -> str | None:
        """The part of a package that it belongs to; None outside the package, and for its `__init__`."""
        below = self.name if not package else self.name.removeprefix(f"{package}.")
        return None if package and below == self.name else below.partition(".")[0]


@cache
def modules() -> dict[str, Module]:
    """All modules of the package and the jobs, by name."""
    paths = [*sorted((REPOSITORY / PACKAGE).rglob("*.py")), *sorted((REPOSITORY / "jobs").glob("*.py"))]
    named: dict[str, Module] = {}
    for path in paths:
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        name = ".".join(parts[1:] if parts[0] == PACKAGE else parts).removesuffix(".__init__")
        text = path.read_text()
        if name != "__init__":
            named[name] = Module(name, path, ast.parse(text), text.count("\n"))
    return named


def imported_names(module: Module) -> set[str]:
    """The full names of all that a module imports by statements, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def importers_of(library: str) -> list[str]:
    """The modules that import a library by statements."""
    return [
        module.name
        for module in modules().values()
        if any(name.partition(".")[0] == library for name in imported_names(module))
    ]


def imports_of(module: Module) -> set[str]:
    """The modules of the package that a module imports, inside functions too."""
    known = modules()
    found: set[str] = set()
    for target in imported_names(module):  # the last part of a name may be a module, or something inside one
        if not target.startswith(f"{PACKAGE}."):
            continue
        name = target.removeprefix(f"{PACKAGE}.")
        while name and name not in known:
            name = name.rpartition(".")[0]
        if name and name != module.name:
            found.add(name)
    return found


def layer_of(package: str, part: str) -> int:
    """The number of a part's layer, from the bottom."""
    return next(number for number, parts in enumerate(LAYERS[package]) if part in parts)


def parts_of(package: str) -> set[str]:
    """The parts of a package, from its files."""
    return {part for module in modules().values() if (part := module.part_of(package)) is not None}


def upward_imports(package: str) -> list[str]:
    """Imports from one part of a package into another that is not below it."""
    found = []
    for module in modules().values():
        for target in sorted(imports_of(module)):
            part, other = module.part_of(package), modules()[target].part_of(package)
            if part is None or other is None or part == other:
                continue
            if layer_of(package, other) >= layer_of(package, part):
                found.append(f"{module.name} -> {target}")
    return found


def import_cycles() -> list[list[str]]:
    """Groups of modules that import one another (strongly connected, by Tarjan's algorithm)."""
    graph = {name: sorted(imports_of(module)) for name, module in modules().items()}
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    cycles: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for target in graph[name]:
            if target not in order:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], order[target])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                cycles.append(sorted(group))

    for name in graph:
        if name not in order:
            visit(name)
    return cycles


def long_files(most_lines: int) -> dict[str, int]:
    """Modules of more lines than `most_lines`, with their lines."""
    return {module.name: module.lines for module in modules().values() if module.lines > most_lines}


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> Iterator[tuple[str, Function]]:
    """Every function and method, nested ones too, as (`module.function`, its definition)."""
    for module in modules().values():
        for node in ast.walk(module.tree):
            if isinstance(node, Function):
                yield f"{module.name}.{node.name}", node


def long_functions(most_lines: int) -> dict[str, int]:
    """Functions of more lines than `most_lines`, decorators left out, with their lines."""
    lengths = ((name, (node.end_lineno or node.lineno) - node.lineno + 1) for name, node in functions())
    return {name: length for name, length in lengths if length > most_lines}


def functions_of_experiments() -> list[str]:
    """Functions with a parameter whose annotation names `Experiment`."""
    return [
        name
        for name, node in functions()
        if any(
            argument.annotation is not None and "Experiment" in ast.unparse(argument.annotation)
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        )
    ]
