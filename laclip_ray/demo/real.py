"""`laclip demo --real`: rewrite captions in the style of the web with a real instruct model, and show the rewrites.

`captions.tsv` has 283 captions, written for this package in the style of alt-texts: headlines, shop titles, file names,
stock phrases, names and numbers. Without pictures there is no training. A table and a page show accepted and
refused rewrites of the same captions: the texts were not made easy for a small model.

Guarantees: the same command skips work that an earlier call finished. Each model has a directory of its own.
"""

import re
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.console import print_rewriting
from laclip_ray.demo.report_parts import rewriting_summaries, rewritten_samples
from laclip_ray.errors import UserError
from laclip_ray.printable import printable_line
from laclip_ray.reporting.gallery import RewrittenSample
from laclip_ray.reporting.report import Report, render_report
from laclip_ray.rewriting.engines.engine import BuildEngine, VllmEngine
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.running.result import RewritingResult
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.tables import NOTHING_TO_REWRITE
from laclip_ray.versions import package_versions

REAL_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
"""The default model: Apache-2.0, 1 GB."""
REAL_REVISION = "7ae557604adf67be50417f59c2c2f167def9a775"
"""The revision of `REAL_MODEL`."""
NO_ENCODER = "none"
"""In the place of a sentence encoder: meaning is not judged."""
CAPTIONS = Path(__file__).parent / "captions.tsv"
PROMPT_SETS = ("assistant_concise", "cleaned")
"""Two of the four sets: on a CPU, each of them costs minutes."""
PRINTED = 8
"""Captions in the table."""
ON_PAGE = 120
"""Captions on the page."""
_HEADS = 8
"""Few captions pay for few prompt heads: each of these serves 35 captions."""
_CAPTIONS_PER_SHARD = 48
"""Small shards: an interrupted demo loses little, and a finished one has passed the whole pipeline several times."""


def real_experiment(
    output: str, model: str | None = None, encoder: str | None = None, captions: str = str(CAPTIONS)
) -> Experiment:
    """Build the experiment, with all files in a directory under `output` that is named after the model.

    Args:
        output: an absolute directory.
        model: a name of the hub or a directory. None: `REAL_MODEL` at `REAL_REVISION`.
        encoder: the sentence encoder of the meaning gate: a name of the hub or a directory. None: the default one.
            `NO_ENCODER`: meaning is not judged.
        captions: a TSV file with the columns `id` and `caption`.
    """
    name = re.sub(r"[^\w.-]+", "-", Path(model or REAL_MODEL).name) or "model"
    return parse_experiment(
        {
            "name": "demo-real",
            "output": storage.join(output, "real", name),
            "data": {
                "path": captions,
                "id_column": "id",
                "quoting": "none",
                "max_rows_per_shard": _CAPTIONS_PER_SHARD,
            },
            "rewrite": {
                "model": model or REAL_MODEL,
                "revision": None if model else REAL_REVISION,
                "mode": "chat",
                "prompt_sets": list(PROMPT_SETS),
                "heads": _HEADS,
                "gate": _gate(encoder),
            },
        },
        where="demo",
    )


def _gate(encoder: str | None) -> dict[str, Any]:
    if encoder is None:
        return {}
    return {"meaning": None if encoder == NO_ENCODER else {"model": encoder}}


def run_real_demo(
    console: Console,
    output: str,
    model: str | None = None,
    encoder: str | None = None,
    build_engine: BuildEngine = VllmEngine,
    captions: str = str(CAPTIONS),
) -> tuple[str, RewritingResult]:
    """Rewrite the captions with a real instruct model; print a table and write `report.html`.

    Args:
        console: prints.
        output: a local directory; created if it is missing.
        model: a name of the hub or a directory. None: `REAL_MODEL`.
        encoder: the sentence encoder of the meaning gate: a name of the hub or a directory. None: the default one.
            `NO_ENCODER`: meaning is not judged.
        build_engine: creates the engine in each actor.
        captions: a TSV file with the columns `id` and `caption`.

    Returns:
        The page, and the result of rewriting.

    Raises:
        UserError: `output` is not a local directory; see `run_rewriting`.
        IncompleteError: see `run_rewriting`.
    """
    if not storage.is_local(output):
        raise UserError(f"--output: {output!r} is a URL, and the demo writes to a directory; give a local one")
    experiment = real_experiment(str(Path(output).absolute()), _absolute(model), _absolute(encoder), captions)
    started_s = time.monotonic()
    result = run_rewriting(experiment, build_engine)
    elapsed_s = time.monotonic() - started_s
    samples = rewritten_samples(experiment, ON_PAGE, with_images=False)
    print_rewriting(console, result, experiment.rewrite_output)
    console.print(_samples_table(samples[:PRINTED]))
    console.print(_accepted_share(result.statistics))
    url = storage.join(experiment.output, "report.html")
    page = render_report(_report(model or REAL_MODEL, samples, result, elapsed_s))
    storage.write_bytes(url, page.encode())
    return url, result


def _absolute(model: str | None) -> str | None:
    """A directory's absolute path: `models/small` alone reads like a name of the hub."""
    return str(Path(model).absolute()) if model and Path(model).is_dir() else model


def _samples_table(samples: list[RewrittenSample]) -> Table:
    """Captions and their rewrites, with the outcome of each."""
    table = Table(title="some captions", title_justify="left")
    for heading in ("caption", "prompt set", "rewrite", "outcome"):
        table.add_column(heading, overflow="fold")
    for sample in samples:
        caption = sample.caption
        for rewrite in sample.rewrites:
            cells = (caption, rewrite.prompt_set, rewrite.text, rewrite.reason or "accepted")
            # As `Text`, for which square brackets are no markup.
            table.add_row(*(Text(printable_line(cell)) for cell in cells))
            caption = ""
        table.add_section()
    return table


def _accepted_share(statistics: dict[str, Statistics]) -> str:
    """The share of accepted texts among all texts that the model wrote, by prompt set and in all.

    >>> _accepted_share({"crowd": Statistics(accepted=3)})
    'accepted: crowd 100%; all 100% of 3 texts'
    """
    total = Statistics()
    shares = []
    for name, counts in statistics.items():
        total.add(counts)
        shares.append(f"{name} {_share(counts):.0%}")
    return f"accepted: {', '.join(shares)}; all {_share(total):.0%} of {_texts(total):,} texts"


def _texts(counts: Statistics) -> int:
    """Texts that the model wrote: it is not asked about a caption without a word."""
    return counts.accepted + counts.rejected.total() - counts.rejected[NOTHING_TO_REWRITE]


def _share(counts: Statistics) -> float:
    return counts.accepted / max(1, _texts(counts))


def _report(model: str, samples: list[RewrittenSample], result: RewritingResult, elapsed_s: float) -> Report:
    return Report(
        title="laclip demo --real",
        introduction=[
            f"{model} rewrote captions in the style of web alt-texts, as a chat, by {len(result.statistics)} prompt "
            "sets. The captions were written for this demo. There are no pictures, and nothing was trained.",
            f"Of the texts that the model wrote, the gate {_accepted_share(result.statistics)}.",
            "Read the accepted ones: a rewrite should say what its caption says, and nothing more.",
        ],
        samples=samples,
        rewriting=rewriting_summaries(result),
        elapsed={"rewrite": elapsed_s},
        versions=package_versions(),
    )
