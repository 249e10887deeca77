"""The commands of `laclip rewrites`, but for `preview`."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from laclip_ray.choices import ExportTarget, ImportJoin
from laclip_ray.cli.ending import Ending, announce, finish
from laclip_ray.cli.next_steps import Given, after_probe
from laclip_ray.cli.options import ConfigArgument, OverridesArgument, console, read_experiment, say
from laclip_ray.cli.working import working
from laclip_ray.printable import printable_line
from laclip_ray.tally import first_names

if TYPE_CHECKING:
    from laclip_ray.rewriting.transfer.export_files import ExportResult
    from laclip_ray.rewriting.transfer.import_texts import ImportResult


def inspect_rewrites(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(help="Show only rewrites refused for this reason, or `accepted` ones. Repeatable."),
    ] = None,
    rewrite_set: Annotated[list[str] | None, typer.Option("--set", help="Read only this set. Repeatable.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Examples to show for each reason.")] = 10,
    seed: Annotated[int, typer.Option(help="Decides which examples are shown.")] = 0,
    html: Annotated[
        str | None, typer.Option(help="Also write a page with pictures, captions and rewrites to this file or URL.")
    ] = None,
    captions: Annotated[int, typer.Option(min=1, max=1_000, help="Captions on the page.")] = 48,
) -> None:
    """Count rewrites by reason, and show examples of accepted and refused ones. Reads a few shards."""
    experiment = read_experiment(config, overrides, reads=("data",))
    announce(f"{config}: reading {experiment.rewrite_output}")
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.console import print_inspection
    from laclip_ray.rewriting.inspection import inspect_rewrites

    inspection = inspect_rewrites(experiment, reason or (), rewrite_set or (), samples=samples, seed=seed)
    if html is not None:
        from laclip_ray import storage
        from laclip_ray.run_report.gallery_page import render_gallery_of

        page = render_gallery_of(experiment, reason or (), rewrite_set or (), captions, seed)
        storage.write_bytes(html, page.encode())
    finish(
        Conclusions.of(config, overrides, experiment).inspected(inspection, html),
        lambda: print_inspection(console, inspection),
    )


def retry_rewrites(
    config: ConfigArgument,
    reason: Annotated[list[str], typer.Option(help="Draw rewrites refused for this reason again. Repeatable.")],
    overrides: OverridesArgument = None,
) -> None:
    """Draw the rewrites that ended with a reason again, and rewrite captions that have no outcome yet."""
    experiment = read_experiment(config, overrides, reads=("data",))
    announce(f"{config} -> {experiment.rewrite_output}")
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.console import print_rewriting
    from laclip_ray.rewriting.inspection import RETRYABLE, check_reasons

    check_reasons(reason, RETRYABLE)
    with working("rewrites retry", experiment.output):
        from laclip_ray.rewriting.running.pipeline import run_rewriting

        result = run_rewriting(experiment, retry=reason)
    finish(
        Conclusions.of(config, overrides, experiment).rewritten(result),
        lambda: print_rewriting(console, result, experiment.rewrite_output),
    )


def probe_engine(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    seconds: Annotated[
        float, typer.Option(min=5.0, help="Time that engines write in all, without their starts.")
    ] = 120.0,
) -> None:
    """Measure the engine alone at a few settings, on these captions and prompts. Writes no rewrites."""
    experiment = read_experiment(config, overrides, reads=("data",))
    announce(f"{config}: measuring the engine")
    from laclip_ray.console import print_probe, print_trial

    with working("rewrites probe"):
        from laclip_ray.rewriting.forecasting.probe import run_probe

        result = run_probe(experiment, seconds, lambda trial: print_trial(console, trial))
    best = " ".join(result.overrides) or "the configured setting"
    finish(
        Ending(
            f"fastest: {best}, {result.best.tokens_per_s:,.0f} tokens/s; written: {', '.join(result.files)}",
            {f"file_{number}": file for number, file in enumerate(result.files)},
            {"best": result.best, "overrides": result.overrides, "trials": result.trials, "record": result.record},
            after_probe(Given(config, overrides or ()), result.overrides),
        ),
        lambda: print_probe(console, result),
    )


def import_rewrites(
    config: ConfigArgument,
    captions: Annotated[str, typer.Argument(help="CSV of image paths (the samples' ids) and captions.")],
    texts: Annotated[
        list[str],
        typer.Argument(
            help="Text files with one line for each row of the CSV. Each file makes a set; NAME.0.txt and NAME.1.txt "
            "make one set together. Dotted overrides may follow.",
            metavar="TEXT_FILE... [KEY=VALUE]...",
        ),
    ],
    name: Annotated[
        list[str] | None,
        typer.Option(help="Name of a set, in the order of the files. Default: the file's. Repeatable."),
    ] = None,
    header: Annotated[bool, typer.Option("--header", help="The CSV's first row names its columns.")] = False,
    id_field: Annotated[int, typer.Option(min=1, help="Field of the sample's id in the CSV, from 1.")] = 1,
    caption_field: Annotated[int, typer.Option(min=1, help="Field of the caption in the CSV, from 1.")] = 2,
    join: Annotated[
        ImportJoin,
        typer.Option(
            help="What joins rows and samples: the id; the caption, for tars whose keys are numbers; or the file name "
            "of the image."
        ),
    ] = "id",
    captions_only: Annotated[
        bool, typer.Option("--captions-only", help="The first file has a caption on each line and nothing else.")
    ] = False,
) -> None:
    """Make rewrite sets from line-aligned text files, such as the ones that the paper's authors publish.

    Needs no engine.
    """
    overrides = [word for word in texts if _is_override(word)]
    files = [word for word in texts if not _is_override(word)]
    experiment = read_experiment(config, overrides, reads=("data",))
    announce(f"{captions} and {len(files)} text files -> {experiment.rewrite_output}")
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.rewriting.transfer.import_texts import CaptionsFile, import_rewrites

    captions_file = CaptionsFile(captions, join, header, id_field, caption_field, captions_only)
    imported = import_rewrites(experiment, captions_file, files, name or ())
    finish(
        Conclusions.of(config, overrides, experiment).imported(imported),
        lambda: _print_imported(imported),
    )


def _is_override(argument: str) -> bool:
    return bool(re.match(r"[A-Za-z_][\w.]*=", argument))


def _echo(line: str) -> None:
    """Print a line that holds texts from data."""
    say(printable_line(line))


def _print_imported(imported: "ImportResult") -> None:
    for name, counts in imported.statistics.items():
        refused = ", ".join(f"{reason} {count:,}" for reason, count in counts.rejected.most_common())
        _echo(
            f"{name}: {counts.captions:,} captions, {counts.accepted:,} rewrites accepted; refused: {refused or 'none'}"
        )
    if imported.unused_lines:
        more = ", …" if imported.unused_lines > len(imported.unused_names) else ""
        _echo(
            f"{imported.unused_lines:,} of {imported.lines:,} rows match no sample: "
            f"{', '.join(imported.unused_names)}{more}"
        )
    if imported.ambiguous_samples:
        more = ", …" if imported.ambiguous_samples > len(imported.ambiguous_names) else ""
        _echo(
            f"{imported.ambiguous_samples:,} samples match several rows equally, and each took the next of them: "
            f"{', '.join(imported.ambiguous_names)}{more}"
        )


def export_rewrites(
    config: ConfigArgument,
    output: Annotated[str, typer.Argument(help="Path or URL to write: a file for parquet, else a new directory.")],
    to: Annotated[
        ExportTarget,
        typer.Option(
            help="One Parquet file; line-aligned text files; or copies of the data's tars, with texts in json members."
        ),
    ],
    overrides: OverridesArgument = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out shards that are not committed or have changed.")
    ] = False,
) -> None:
    """Write accepted rewrites and their captions in common formats."""
    experiment = read_experiment(config, overrides, reads=("data",))
    announce(f"{experiment.rewrite_output} -> {output}")
    from laclip_ray.rewriting.transfer.export import export_rewrites

    exported = export_rewrites(experiment, output, to, partial)
    rewrites = ", ".join(f"{name} {count:,}" for name, count in exported.sets.items())
    finish(
        Ending(
            f"{output}: {exported.samples:,} samples of {exported.shards:,} shards, {exported.samples_without:,} "
            f"without a rewrite; rewrites: {rewrites}",
            {"export": output},
            {"exported": exported},
        ),
        lambda: _print_exported(exported),
    )


def _print_exported(exported: "ExportResult") -> None:
    for problem, shards in (
        ("left out, not committed", exported.not_committed),
        ("changed since they were rewritten", exported.changed),
        ("ended in the middle", exported.truncated),
    ):
        if shards:
            _echo(f"{len(shards):,} shards {problem}: {first_names(shards)}")
    if exported.changed_samples:
        _echo(f"{exported.changed_samples:,} samples are new or have another caption: no rewrites")
    if exported.json_replaced:
        _echo(f"{exported.json_replaced:,} json members held no JSON object and were replaced")
    if exported.json_keys:
        _echo(
            f"open_clip (main branch) draws one of them with --json-text-key '{';'.join(exported.json_keys)}' "
            f"--json-text-key-probs {' '.join('1' for _ in exported.json_keys)}"
        )
