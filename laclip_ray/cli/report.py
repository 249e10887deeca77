"""`laclip report`: the verb."""

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laclip_ray.cli.ending import Ending, announce, finish
from laclip_ray.cli.options import read_experiment
from laclip_ray.cli.settings import remember
from laclip_ray.redaction import redact

if TYPE_CHECKING:
    from laclip_ray.config import Experiment
    from laclip_ray.run_report.reading import Target


def report(
    runs: Annotated[
        list[str],
        typer.Argument(help="Outputs of experiments, directories or URLs; or their YAML files.", metavar="RUN"),
    ],
    page: Annotated[
        str | None, typer.Option(help="File or URL to write. Default: report-NAME.html in the current directory.")
    ] = None,
    captions: Annotated[int, typer.Option(min=0, max=1_000, help="Captions in the gallery, all runs together.")] = 48,
    seed: Annotated[int, typer.Option(help="Decides which captions are shown.")] = 0,
) -> None:
    """Write one HTML page about runs, also running ones: results, pictures with rewrites, curves, cost, lineage.

    Reads files only; needs no cluster.
    """
    experiments = [_experiment(run) for run in runs]
    announce(f"reading {', '.join(runs)}")
    from laclip_ray import storage
    from laclip_ray.run_report.report import default_page, render_report_of

    targets = [_target(run, experiment) for run, experiment in zip(runs, experiments, strict=True)]
    remember({"RUN": runs})
    url = page or default_page(targets)
    command = redact(shlex.join(["laclip", "report", *runs, *(["--seed", str(seed)] if seed else [])]))
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    content = render_report_of(targets, captions, seed, command, date).encode()
    storage.write_bytes(url, content)
    finish(Ending(f"{url}: {len(content) / 2**20:.1f} MiB", {"page": url}, {"runs": runs, "bytes": len(content)}))


def _experiment(run: str) -> "Experiment | None":
    """The experiment if the argument names a config; None for an output."""
    return read_experiment(run, None) if run.endswith((".yaml", ".yml")) or Path(run).is_file() else None


def _target(run: str, experiment: "Experiment | None") -> "Target":
    """The run that an argument names.

    Raises:
        UserError: there is no such output.
    """
    from laclip_ray import storage
    from laclip_ray.run_report.reading import Target
    from laclip_ray.run_report.report import name_of_output
    from laclip_ray.status.outputs import Locations, find_locations

    if experiment is not None:
        return Target(experiment.name, Locations.of(experiment), experiment)
    # Absolute, as configs record outputs: so runs that share rewrites are seen to.
    output = str(Path(run).absolute()) if storage.is_local(run) else run
    return Target(name_of_output(output), find_locations(output))
