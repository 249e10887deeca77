"""Figures of the house itself: its structure, its prose, its tests, and the files that it keeps in order."""

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from laclip_ray.rewriting.recipe import HARMLESS_ENGINE_ARGUMENTS, fingerprint_of
from tests import structure
from tests.figures import house_exports
from tests.figures.figure import Figure, exit_code
from tests.figures.house_resume import resumed_runs
from tests.figures.prose import turns_per_thousand_words
from tests.structure import REPOSITORY
from tests.unit.cluster_files import checks
from tests.unit.rewriting.shards import recipe

MAX_FILE_LINES, MAX_FUNCTION_LINES = 450, 60


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """The figures of the chosen shows, all without a choice."""
    areas: dict[int, Callable[[int], Iterator[Figure]]] = {
        1: sizes_and_imports,
        2: experiments,
        3: prose,
        4: fresh_clone,
        5: demo_and_resumed_runs,
        6: house_exports.paper_exports,
        7: cluster_files,
        8: fingerprints,
    }
    for show, measure in areas.items():
        if not shows or show in shows:
            yield from measure(show)


def sizes_and_imports(show: int) -> Iterator[Figure]:
    """Long files, long functions, and imports that do not point down."""
    long_files = structure.long_files(MAX_FILE_LINES)
    yield Figure(show, f"files of more than {MAX_FILE_LINES} lines", len(long_files), "files", at_most=0)
    yield Figure(show, "import cycles", len(structure.import_cycles()), "", at_most=0)
    upward = [each for package in structure.LAYERS for each in structure.upward_imports(package)]
    yield Figure(show, "upward imports between packages", len(upward), "", at_most=0)
    long_functions = structure.long_functions(MAX_FUNCTION_LINES)
    yield Figure(show, f"functions of more than {MAX_FUNCTION_LINES} lines", len(long_functions), "", at_most=3)


def experiments(show: int) -> Iterator[Figure]:
    """Functions that take a whole experiment."""
    yield Figure(show, "functions that take an Experiment", len(structure.functions_of_experiments()), "", at_most=60)


def prose(show: int) -> Iterator[Figure]:
    """Stilted turns in the code's prose and in the pages."""
    pages = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
    code = sorted((REPOSITORY / structure.PACKAGE).rglob("*.py"))
    for name, paths in (("code", code), ("pages", pages)):
        rate = turns_per_thousand_words(paths)
        yield Figure(show, f"stilted turns in {name}", rate, "per 1,000 words", at_most=4)


def fresh_clone(show: int) -> Iterator[Figure]:
    """The time of `make unit` and `make test` in a fresh clone, its set-up included in the first, and the tests."""
    with tempfile.TemporaryDirectory() as scratch:
        clone = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(clone)], check=True)
        environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
        for target, bar_s in (("build-environment", None), ("unit", 180), ("test", 720)):
            goal = ".venv/.ready-cpu" if target == "build-environment" else target
            started_s = time.monotonic()
            done = subprocess.run(
                ["make", goal], cwd=clone, env=environment, capture_output=True, text=True, check=False
            )
            elapsed_s = time.monotonic() - started_s
            print(done.stdout[-2_000:], done.stderr[-2_000:], file=sys.stderr)
            yield exit_code(show, f"exit code of make {goal} in a fresh clone", done.returncode)
            yield Figure(show, f"time of make {goal}", elapsed_s, "s", at_most=bar_s)
            passed = sum(int(count) for count in re.findall(r"(\d+) passed", done.stdout))
            if passed:
                yield Figure(show, f"tests passed by make {target}", passed, "tests", at_least=1)


def demo_and_resumed_runs(show: int) -> Iterator[Figure]:
    """The demo's exit code, and runs that an earlier commit began."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "laclip_ray", "demo", "--output", str(Path(scratch) / "demo")]
        yield exit_code(show, "exit code of the demo", subprocess.run(command, cwd=REPOSITORY, check=False).returncode)
    yield from resumed_runs(show)


def cluster_files(show: int) -> Iterator[Figure]:
    """Invalid files of `cluster/`, and misspelt fields in them that no check catches."""
    if checks.schemas() is None:
        print("KubeRay's schemas are not beside the test data: the figures on cluster files are left out")
        return
    invalid = sum(bool(checks.problems(name, checks.load(name))) for name in checks.FILES)
    copies = [(name, copy) for name in checks.FILES for _, copy in checks.misspelt_copies(name)]
    missed = sum(not checks.problems(name, copy) for name, copy in copies)
    yield Figure(show, f"invalid files of {len(checks.FILES)} for a cluster", invalid, "files", 0, 0)
    yield Figure(show, f"misspelt fields of {len(copies)} not caught", missed, "fields", 0, 0)


def fingerprints(show: int) -> Iterator[Figure]:
    """Engine arguments whose change keeps a set's fingerprint though they are not known as harmless."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    names = {field.name for field in dataclasses.fields(AsyncEngineArgs)} - HARMLESS_ENGINE_ARGUMENTS
    values: tuple[object, ...] = (None, "a", "b", 1, 2.5, [], {"a": 1})
    unchanged = 0
    for name in sorted(names):
        variants = ({}, *({name: value} for value in values))
        seen = {fingerprint_of(recipe(engine={"args": args})) for args in variants}
        unchanged += len(seen) < len(variants)
    label = f"engine arguments of {len(names)}, not harmless, whose change keeps the fingerprint"
    yield Figure(show, label, unchanged, "arguments", 0, 0)
