"""Figures of the house itself: the files that the repository keeps in order."""

import dataclasses
from collections.abc import Collection, Iterator

from laclip_ray.rewriting.recipe import HARMLESS_ENGINE_ARGUMENTS, fingerprint_of
from tests.figures import house_exports
from tests.figures.figure import Figure
from tests.unit.cluster_files import checks
from tests.unit.rewriting.shards import recipe

CLUSTER_FILES = 4
"""The show of `cluster/`."""
FINGERPRINTS = 5
"""The show of the engine's arguments in recipes."""
PAPER_EXPORTS = 6
"""The show of the paper's models in the picture gate and in evaluation."""


def cluster_files(shows: Collection[int] = ()) -> Iterator[Figure]:
    """Show 4: invalid files of `cluster/`, and misspelt fields in them that no check catches."""
    if shows and CLUSTER_FILES not in shows:
        return
    if checks.schemas() is None:
        print("KubeRay's schemas are not beside the test data: the figures on cluster files are left out")
        return
    contents = {name: checks.load(name) for name in (checks.LAUNCHER, *checks.MANIFESTS)}
    invalid = sum(bool(checks.problems(name, content)) for name, content in contents.items())
    copies = [(name, copy) for name, content in contents.items() for _, copy in checks.misspelt(content)]
    missed = sum(not checks.problems(name, copy) for name, copy in copies)
    yield Figure(CLUSTER_FILES, f"invalid files of {len(contents)} for a cluster", invalid, "files", 0, 0)
    yield Figure(CLUSTER_FILES, f"misspelt fields of {len(copies)} not caught", missed, "fields", 0, 0)


def fingerprints(shows: Collection[int] = ()) -> Iterator[Figure]:
    """Show 5: engine arguments whose change keeps a set's fingerprint though they are not known as harmless."""
    if shows and FINGERPRINTS not in shows:
        return
    from vllm.engine.arg_utils import AsyncEngineArgs

    names = {field.name for field in dataclasses.fields(AsyncEngineArgs)} - HARMLESS_ENGINE_ARGUMENTS
    values: tuple[object, ...] = (None, "a", "b", 1, 2.5, [], {"a": 1})
    unchanged = 0
    for name in sorted(names):
        variants = ({}, *({name: value} for value in values))
        seen = {fingerprint_of(recipe(engine={"args": args})) for args in variants}
        unchanged += len(seen) < len(variants)
    label = f"engine arguments of {len(names)}, not harmless, whose change keeps the fingerprint"
    yield Figure(FINGERPRINTS, label, unchanged, "arguments", 0, 0)


def paper_exports(shows: Collection[int] = ()) -> Iterator[Figure]:
    """Show 6: results that differ between a paper's model and its export, by each form of the export's name."""
    if not shows or PAPER_EXPORTS in shows:
        yield from house_exports.paper_exports(PAPER_EXPORTS)
