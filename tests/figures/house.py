"""Figures of the house itself: the files that the repository keeps in order."""

from collections.abc import Collection, Iterator

from tests.figures.figure import Figure
from tests.unit.cluster_files import checks

CLUSTER_FILES = 4
"""The show of `cluster/`."""


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
