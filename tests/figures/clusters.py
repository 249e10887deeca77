"""Figures of clusters: storage with very many shards, its requests and its faults; nodes that come and go."""

from collections.abc import Callable, Collection, Iterator

from tests.figures.clusters_bytes import captions_of_a_tar
from tests.figures.clusters_faults import faults
from tests.figures.clusters_jobs import endings
from tests.figures.clusters_listing import listing
from tests.figures.clusters_nodes import nodes
from tests.figures.clusters_requests import requests
from tests.figures.clusters_verbs import verbs_on_s3
from tests.figures.figure import Figure, outcomes_of_tests
from tests.figures.house import cluster_files


def figures(shows: Collection[int] = ()) -> Iterator[Figure]:
    """The figures of the chosen shows, all without a choice."""
    areas: tuple[tuple[int, Callable[[int], Iterator[Figure]]], ...] = (
        (1, listing),
        (2, captions_of_a_tar),
        (2, requests),
        (3, lambda show: outcomes_of_tests(show, "../integration/test_object_store.py")),
        (3, lambda show: outcomes_of_tests(show, "../integration/test_object_store_lease.py")),
        (3, verbs_on_s3),
        (3, faults),
        (4, nodes),
        (5, cluster_files),
        (6, endings),
        (7, lambda show: outcomes_of_tests(show, "status/test_setups.py", "doctor/test_setups.py")),
    )
    for show, measure in areas:
        if not shows or show in shows:
            yield from measure(show)
