"""Preview a rewriting run on a few captions: the step before money is spent.

    sample of the captions -> prompts -> one engine -> gate, redraws -> outcomes, speed, forecast for the whole data

One engine writes in a process of its own, beside the sentence encoder of the meaning gate in this process. Heads,
sampling, gate and redraws are a run's: both use `ShardGenerator`.

Guarantees: the sampled captions are a function of the data and the seed. No rewrite set is read or written. However the
preview ends, it leaves no process behind.

Not covered: the picture gate, so a run with one accepts fewer rewrites; the engines of a cluster, as the preview runs
where the command runs. A caption that kills the engine ends the preview; a run finds it and continues.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from laclip_ray import cluster, storage
from laclip_ray.config import Experiment, RewriteConfig
from laclip_ray.data.dataset_index import beside
from laclip_ray.data.preview import check_first_rows
from laclip_ray.data.records import Sample, Shard, hash_caption
from laclip_ray.data.sample_pictures import PlacedKey
from laclip_ray.data.shard_table import ShardsByName, ShardTable
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.local_outputs import check_writable
from laclip_ray.progress import phase, tell
from laclip_ray.progress.messages import Rewriting, RewritingEnd
from laclip_ray.rewriting.draws import build_samples, describe_samples
from laclip_ray.rewriting.engines.arguments import check_engine, check_place, hardware, has_gpu
from laclip_ray.rewriting.engines.engine import BuildEngine, Engine, EngineDiedError, EngineStartError, VllmEngine
from laclip_ray.rewriting.engines.heads import build_heads, choose_heads
from laclip_ray.rewriting.engines.loop_thread import run_in_thread
from laclip_ray.rewriting.engines.orphan_guard import kill_children_when_gone
from laclip_ray.rewriting.engines.work import EngineWork
from laclip_ray.rewriting.forecasting.token_counts import CaptionSample, sample_captions
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.prices import check_budget
from laclip_ray.rewriting.prompting.prompts import Head, PromptSet
from laclip_ray.rewriting.row_errors import one_line
from laclip_ray.rewriting.running.backlog import Backlog, check_prompts, load_prompt_sets
from laclip_ray.rewriting.running.drawn_work import tell_regularly
from laclip_ray.rewriting.running.generator import EncoderError, ShardGenerator, useful_redraws
from laclip_ray.rewriting.scoring.meaning_batches import BatchedEncoders
from laclip_ray.rewriting.scoring.meaning_pool import local_meaning_gate
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import LOG_PROBABILITY, MEANING_SCORES, Origin, WorkUnit

logger = logging.getLogger(__name__)

PAGE_FILE = "preview.html"
"""In the experiment's `output`."""

_SHARD = "preview"
"""The name that the sample has in place of a shard's."""


@dataclass(frozen=True)
class PreviewDraw:
    """A text that the engine wrote for a caption, or the reason for its absence."""

    slot: int
    attempt: int
    """0, and one more each time the slot was drawn again."""
    text: str | None
    reason: str | None
    """None: the gate accepts the text."""
    scores: Mapping[str, float]
    """The known ones of `MEANING_SCORES` and `LOG_PROBABILITY`."""


@dataclass(frozen=True)
class PreviewedCaption:
    """A sampled caption and its draws."""

    id: str
    caption: str
    shard: str
    """The name of the shard that it was drawn from."""
    draws: Mapping[str, tuple[PreviewDraw, ...]]
    """By prompt set, in the order of slot and attempt."""

    @property
    def key(self) -> PlacedKey:
        """What tells its sample from all others."""
        return self.shard, self.id, hash_caption(self.caption)


@dataclass(frozen=True)
class Preview:
    """The outcome of a preview."""

    sample: CaptionSample
    """Where the captions are from."""
    captions: tuple[PreviewedCaption, ...]
    work: Mapping[str, EngineWork]
    """By prompt set, the engine's requests and tokens."""
    rewriting_s: float
    """Seconds from the first prompt to the last verdict."""
    start_s: float
    """Seconds that the engine and the encoder took to start."""
    started_at_s: float
    """When both were ready, on the monotonic clock."""
    hardware: str
    """The engine's devices."""


@dataclass(frozen=True)
class PreviewPlan:
    """The plan of a preview, made before an engine starts."""

    rewrite: RewriteConfig
    seed: int
    """Of the experiment."""
    shards: tuple[Shard, ...]
    sample: CaptionSample
    prompt_sets: Mapping[str, PromptSet]
    heads: Mapping[str, Sequence[Head]]
    """By prompt set."""
    gates: Mapping[str, Gate]
    """By prompt set."""
    _attempts: str = field(default_factory=lambda: f"memory://{uuid.uuid4().hex}", repr=False)
    """Where the generator records its attempts. They end with the process."""

    def generator(self, engine: Engine, meaning: MeaningGate | None) -> ShardGenerator:
        """The generator of a run, with one engine."""
        return ShardGenerator(
            engine=engine,
            heads=self.heads,
            gates=self.gates,
            sets={name: RewriteSet(f"{self._attempts}/{name}", gate=_SHARD) for name in self.heads},
            redraws=useful_redraws(self.rewrite),
            max_engine_deaths=self.rewrite.max_engine_deaths,
            run=_SHARD,
            node=_SHARD,
            alive_nodes=lambda: {_SHARD},
            meaning=meaning,
            completions=self.rewrite.completions,
        )

    def samples(self, prompt_set: str) -> pa.Table:
        """The sampled captions as a table of `SAMPLES_SCHEMA`."""
        samples = [Sample(row, key, caption, None) for row, (key, caption) in enumerate(self.sample.captions)]
        described = describe_samples(
            samples, self.rewrite.max_caption_characters, self.rewrite.gate.drop_wordless_captions
        )
        unit = WorkUnit(prompt_set, _SHARD, 0)
        return build_samples(described, unit, self.rewrite.heads, self.seed, self.rewrite.rewrites_per_set)


def plan_preview(experiment: Experiment, captions: int, seed: int) -> PreviewPlan:
    """Check the configuration, and draw the sample. Starts no engine and writes no file.

    Args:
        experiment: the configuration.
        captions: the number of captions to draw; fewer if the read shards have fewer.
        seed: decides which captions.

    Raises:
        UserError: bad input.
    """
    rewrite = experiment.rewrite
    check_place(rewrite.engine, "the preview")
    check_engine(rewrite)
    check_budget(rewrite)
    prompt_sets = load_prompt_sets(rewrite.prompt_sets)
    shards = list_shards(experiment.data, index=beside(experiment.output))
    numbers = choose_heads(rewrite, prompt_sets, experiment.seed, experiment.rewrite_output)
    units = [WorkUnit(name, _SHARD, 0) for name in prompt_sets]
    backlog = Backlog(experiment, ShardsByName(ShardTable()), prompt_sets, numbers, {}, {}, {}, to_draw=units)
    check_prompts(backlog)
    check_first_rows(experiment.data, shards, needs_images=False)
    sample = sample_captions(shards, experiment.data, rewrite, seed, caption_count=captions)
    if not sample.captions:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sample.not_rewritten.items())
        raise UserError(
            f"data.path: none of the {sample.rows:,} samples of {sample.shards} shards has a caption to rewrite "
            f"({reasons}). Check data.caption_column and the data's files"
        )
    return PreviewPlan(
        rewrite=rewrite,
        seed=experiment.seed,
        shards=tuple(shards),
        sample=sample,
        prompt_sets=prompt_sets,
        heads=build_heads(rewrite, prompt_sets, numbers),
        gates={name: build_gate() for name, build_gate in backlog.gates.items()},
    )


def run_preview(plan: PreviewPlan, build_engine: BuildEngine = VllmEngine) -> Preview:
    """Rewrite the sample with one engine.

    Args:
        plan: from `plan_preview`.
        build_engine: starts an engine.

    Raises:
        UserError: the sentence encoder cannot be loaded.
        IncompleteError: the engine does not start, or dies; or the encoder gives no scores.
    """
    rewrite, sample = plan.rewrite, plan.sample
    logger.info(
        "preview: %d captions of %d shards; starting one engine for %s on this machine's %s",
        len(sample.captions), sample.shards, rewrite.model, "GPU" if has_gpu() else "CPU",
    )  # fmt: skip
    begun_s = time.monotonic()
    with phase("loading the sentence encoder"):
        meaning = _start_encoder(rewrite)
    kill_children_when_gone()
    try:
        with phase(f"loading {rewrite.model}"):
            engine = build_engine(rewrite, plan.seed)
    except EngineStartError as error:
        raise IncompleteError(str(error)) from error
    with contextlib.closing(engine):
        started_at_s = time.monotonic()
        start_s = started_at_s - begun_s
        generator = plan.generator(engine, meaning)
        tell(Rewriting(units=len(plan.prompt_sets), units_done=0, captions_done=0, sets=len(plan.prompt_sets)))
        is_over = tell_regularly(generator.work, "preview")
        made = _rewrite(plan, generator)
        is_over.set()
        tell(RewritingEnd())
        rewriting_s = time.monotonic() - started_at_s
    devices = hardware(rewrite.engine)
    return Preview(
        sample=sample,
        captions=_captions_of(sample, made),
        work={name: EngineWork(devices).with_tokens_of(table) for name, table in made.items()},
        rewriting_s=rewriting_s,
        start_s=start_s,
        started_at_s=started_at_s,
        hardware=devices,
    )


def _start_encoder(rewrite: RewriteConfig) -> MeaningGate | None:
    """The meaning gate with its encoder loaded; None if it is off."""
    gate = local_meaning_gate(rewrite.gate.meaning)
    if gate is None:
        return None
    gate.encoders.score_now([("a text", "a text")])  # loads it: a model that does not load is refused here
    return MeaningGate(gate.config, gate.scorers, BatchedEncoders(gate.encoders))


def _rewrite(plan: PreviewPlan, generator: ShardGenerator) -> dict[str, pa.Table]:
    """Draw the rewrites of the sample, all prompt sets at a time: by prompt set, a table of `MADE_SCHEMA`."""

    async def draw() -> list[pa.Table]:
        origin = Origin(_SHARD, _SHARD, plan.rewrite.rewrites_per_set)
        return await asyncio.gather(
            *(generator.generate(WorkUnit(name, _SHARD, 0), origin, plan.samples(name)) for name in plan.heads)
        )

    try:
        return dict(zip(plan.heads, run_in_thread(draw()), strict=True))
    except EngineDiedError as error:
        raise IncompleteError(
            f"the engine died while it rewrote the sample ({one_line(error)}). Look at its messages. If one "
            "caption kills it, another --seed draws others, and `laclip rewrite` finds it and goes on without it"
        ) from error
    except EncoderError as error:
        raise IncompleteError(
            f"rewrite.gate.meaning: the encoder gave no scores ({error}). Look at its messages above; the same command "
            "starts again"
        ) from error


def _captions_of(sample: CaptionSample, made: Mapping[str, pa.Table]) -> tuple[PreviewedCaption, ...]:
    draws: list[dict[str, list[PreviewDraw]]] = [{name: [] for name in made} for _ in sample.captions]
    for name, table in made.items():
        for row in table.to_pylist():
            scores = {key: row[key] for key in (*MEANING_SCORES, LOG_PROBABILITY) if row[key] is not None}
            draws[row["row"]][name].append(PreviewDraw(row["draw"], row["attempt"], row["text"], row["reason"], scores))
    return tuple(
        PreviewedCaption(key, caption, shard, {name: tuple(of_set) for name, of_set in of_caption.items()})
        for (key, caption), shard, of_caption in zip(sample.captions, sample.shard_names, draws, strict=True)
    )


def check_page(output: str, page: str | None, shared_paths: list[str]) -> str:
    """The path or URL of a preview's page, refused before an engine starts if it cannot be written.

    Args:
        output: the experiment's output, which has the page by default.
        page: given by the user.
        shared_paths: `ray.shared_paths`.

    Raises:
        UserError: it would be lost, or is a directory.
        SurroundingsError: its directory cannot be written.
    """
    setting, directory = ("output", output) if page is None else ("--page", page.rpartition("/")[0] or ".")
    url = page or storage.join(output, PAGE_FILE)
    if storage.is_directory(url):
        raise UserError(f"{setting}: {url} is a directory; give a file")
    storage.check_output(directory, setting, cluster.in_ray_job(), 1, shared_paths)
    check_writable({setting: directory})
    return url
