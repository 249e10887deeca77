"""Make the report of runs: read their facts, make the page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from laclip_ray import storage
from laclip_ray.reporting.page import render_page
from laclip_ray.run_report.page import report_page
from laclip_ray.run_report.reading import Target, config_of, read_run
from laclip_ray.status.damage import Damage
from laclip_ray.status.outputs import find_locations
from laclip_ray.training.paths import RunPaths
from laclip_ray.versions import package_versions

CAPTIONS = 48
"""Shown by default, of all runs together."""
_PARTS = ("rewrites", "train", "tune", "evaluate")
"""Directories of the parts of an experiment."""
_MOST_BELOW = 64
"""Upper bound on directories of an output that are looked into for runs."""


def render_report_of(targets: Sequence[Target], captions: int, seed: int, command: str, date: str) -> str:
    """The page about runs, as a complete HTML document.

    Args:
        targets: one or more.
        captions: how many to show, all runs together.
        seed: decides which.
        command: that makes this page.
        date: of the page.
    """
    given = {target.locations.output for target in targets}
    below = [run for target in targets for run in _runs_below(target) if run.locations.output not in given]
    targets = [*targets, *below]
    each = -(-captions // _with_rewrites(targets))
    # Rewriting records no data; a run beside it may.
    data_of = next((config for target in targets if (config := config_of(target, Damage()))), {})
    runs = [read_run(target, each, seed, data_of) for target in with_different_names(targets)]
    return render_page(report_page(runs, package_versions(), command, date))


def _runs_below(target: Target) -> list[Target]:
    """The training runs in the directories of an output that has rewrites and no training, such as the demo's."""
    locations = target.locations
    if target.experiment is not None or "training" not in locations.parts:
        return []
    if storage.is_directory(locations.parts["training"]):
        return []
    found = []
    for name in storage.list_directories(locations.output)[:_MOST_BELOW]:
        output = storage.join(locations.output, name)
        if storage.exists(RunPaths(storage.join(output, "train")).experiment):
            found.append(Target(name, find_locations(output)))
    return found


def _with_rewrites(targets: Sequence[Target]) -> int:
    """How many of the targets have rewrites of their own; at least one."""
    locations = {target.locations.parts.get("rewriting") for target in targets}
    return max(1, sum(location is not None and storage.is_directory(location) for location in locations))


def name_of_output(output: str) -> str:
    """The name of a run on a page: the last part of its path; for a part of an experiment, with the one above it.

    >>> name_of_output("s3://b/runs/pictures/"), name_of_output("/runs/pictures/tune")
    ('pictures', 'pictures/tune')
    """
    parts = [part for part in output.rstrip("/").split("/") if part]
    is_part = parts[-1:] and parts[-1] in _PARTS and len(parts) > 1
    return "/".join(parts[-2 if is_part else -1 :]) or output


def with_different_names(targets: Sequence[Target]) -> list[Target]:
    """The targets with different names: a repeated name gets the directories above it, or a number."""
    names = [target.name for target in targets]
    parts = [target.locations.output.rstrip("/").split("/") for target in targets]
    depth = 1
    while len(set(names)) < len(names) and depth < max(map(len, parts)):
        repeated = {name for name, count in Counter(names).items() if count > 1}
        depth += 1
        names = [
            "/".join(of_target[-depth:]) if name in repeated else name
            for name, of_target in zip(names, parts, strict=True)
        ]
    seen: Counter[str] = Counter()
    found = []
    for target, name in zip(targets, names, strict=True):
        seen[name] += 1
        found.append(replace(target, name=name if seen[name] == 1 else f"{name} ({seen[name]})"))
    return found


def default_page(targets: Sequence[Target]) -> str:
    """Where the page is written unless the user names a file: in the current directory, after the runs."""
    names = [storage.name_of(target.locations.output.rstrip("/")) or "run" for target in targets]
    return f"report-{names[0]}.html" if len(names) == 1 else "report.html"
