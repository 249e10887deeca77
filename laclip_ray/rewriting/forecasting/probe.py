"""Measure the bare engine at a few settings, on the prompts of an experiment.

The engine gets the prompts of the user's own captions with their real heads and sampling, as many at a time as a
rewriting run keeps in flight. Its texts are dropped. One engine runs at a time, in a process of its own. Each setting
changes one value of the best one so far.

Guarantees: no rewrite set is read or written. However the probe ends, it leaves no process behind.

Not covered: the engines of a cluster. The probe runs where the command runs.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import yaml

from laclip_ray import lease, storage
from laclip_ray.config import EngineConfig, Experiment, RewriteConfig
from laclip_ray.config.rewriting import required_model
from laclip_ray.data.dataset_index import beside
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.engines.arguments import check_engine, check_place, hardware, has_gpu
from laclip_ray.rewriting.engines.engine import Answer, EngineDiedError, EngineStartError, RequestError, VllmEngine
from laclip_ray.rewriting.engines.heads import build_heads, choose_heads
from laclip_ray.rewriting.engines.orphan_guard import kill_children_when_gone
from laclip_ray.rewriting.engines.probe_record import ProbeRecord
from laclip_ray.rewriting.forecasting.token_counts import sample_captions
from laclip_ray.rewriting.prompting.prompts import Head, Prompt, choose_head, load_prompt_set
from laclip_ray.rewriting.recipe import build_recipe, fingerprint_of
from laclip_ray.rewriting.row_errors import one_line
from laclip_ray.rewriting.running.actor import start_engine
from laclip_ray.rewriting.running.generator import REQUESTS_IN_FLIGHT
from laclip_ray.versions import package_versions

logger = logging.getLogger(__name__)

PROBED_CAPTIONS = 20_000
"""Captions of a probe: enough that a fast engine sees each prompt once."""

FRAGMENT_FILE = "probe.yaml"
"""In `rewrite.output`."""

_CHUNK_CAPTIONS = 1_000
"""Captions whose prompts are sorted by head, as a shard's are."""

_WARM_SHARE = 0.25
"""Share of a trial's time before its tokens count: the cache fills, and requests at all stages are in flight."""

_NOTABLE = 1.02
"""A setting replaces another one if it is faster by this factor. Smaller differences are noise."""

_RELEASE_TIMEOUT_S = 60.0
"""How long an engine may wait for the memory of the one before."""

_ARGUMENTS = ("max_num_seqs", "max_num_batched_tokens")
"""The engine arguments that a probe varies."""


class ProbedEngine(Protocol):
    """An engine that tells how it forms batches."""

    async def generate(self, prompt: Prompt, count: int, request_id: str) -> Answer:
        """See `laclip_ray.rewriting.engines.engine.Engine`."""

    @property
    def batching(self) -> dict[str, int]:
        """Values of the engine arguments in `_ARGUMENTS`."""

    def close(self) -> None:
        """Stop the engine and its processes."""


BuildProbedEngine = Callable[[RewriteConfig, int], ProbedEngine]


@dataclass(frozen=True)
class Trial:
    """One setting of the engine, and its speed."""

    settings: dict[str, int]
    """By key of `rewrite.engine`: `cpu_threads` on a CPU, else engine arguments."""
    tokens_per_s: float = 0.0
    """Output tokens a second; 0 if it did not run."""
    requests_per_s: float = 0.0
    cached_share: float = 0.0
    """Share of prompt tokens found in the prefix cache."""
    start_s: float = 0.0
    """Seconds that the engine took to start."""
    problem: str | None = None
    """Why it has no speed."""


@dataclass(frozen=True)
class ProbeResult:
    """The trials of a probe."""

    trials: tuple[Trial, ...]
    best: Trial
    overrides: tuple[str, ...]
    """Command-line overrides that give the best setting; empty: the configuration does."""
    record: ProbeRecord
    files: tuple[str, ...]
    """The record, and the best setting as a fragment of a configuration."""


@dataclass
class _Counts:
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    failed: int = 0

    def add(self, answer: Answer) -> None:
        self.requests += 1
        self.prompt_tokens += answer.prompt_tokens
        self.cached_tokens += answer.cached_tokens
        self.output_tokens += sum(completion.output_tokens for completion in answer.completions)


def run_probe(
    experiment: Experiment,
    seconds: float,
    on_trial: Callable[[Trial], None] = lambda _: None,
    build_engine: BuildProbedEngine = VllmEngine,
) -> ProbeResult:
    """Measure the engine of an experiment at a few settings, and write the record of the best one.

    Args:
        experiment: the configuration; `rewrite.output` gets the record.
        seconds: time that engines write in all trials together, without their starts.
        on_trial: called after each trial.
        build_engine: starts an engine.

    Raises:
        UserError: bad input, before any engine starts.
        IncompleteError: the engine does not start, or dies, with the configured setting.
    """
    rewrite, seed, output = experiment.rewrite, experiment.seed, experiment.rewrite_output
    check_place(rewrite.engine, "the probe")
    check_engine(rewrite)
    storage.check_output(output, "rewrite.output", False, 1, [])
    prompt_sets = {prompt_set.name: prompt_set for prompt_set in map(load_prompt_set, rewrite.prompt_sets)}
    chosen = choose_heads(rewrite, prompt_sets, seed, output)
    heads = build_heads(rewrite, prompt_sets, chosen)
    shards = list_shards(experiment.data, index=beside(experiment.output))
    sample = sample_captions(shards, experiment.data, rewrite, seed, caption_count=PROBED_CAPTIONS)
    if not sample.captions:
        raise UserError(
            "data.path: no caption of the shards read can be rewritten, so there is nothing to probe with; look at "
            "them with `laclip data check`"
        )
    with lease.hold(output, "rewrite.output", "rewrites probe"):
        kill_children_when_gone()
        search = _Search(rewrite, seed, heads, sample.captions, build_engine, on_trial)
        search.run(seconds)
        recipes = {
            name: fingerprint_of(build_recipe(rewrite, prompt_sets[name], seed, chosen[name])) for name in prompt_sets
        }
        record = ProbeRecord(
            model=required_model(rewrite),
            recipes=recipes,
            hardware=hardware(rewrite.engine),
            settings=search.best.settings,
            tokens_per_s=search.best.tokens_per_s,
            trials=tuple(asdict(trial) for trial in search.trials),
            versions=package_versions(),
            measured=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        files = (record.write(output), storage.join(output, FRAGMENT_FILE))
        storage.write_bytes(files[1], fragment(record.settings).encode())
    return ProbeResult(tuple(search.trials), search.best, search.overrides, record, files)


@dataclass
class _Search:
    """Tries settings, each from the best one so far with one value changed."""

    rewrite: RewriteConfig
    seed: int
    heads: Mapping[str, Sequence[Head]]
    captions: Sequence[tuple[str, str]]
    build_engine: BuildProbedEngine
    on_trial: Callable[[Trial], None]
    trials: list[Trial] = field(default_factory=list)

    @property
    def best(self) -> Trial:
        """The fastest trial; the first one unless another is notably faster."""
        best = self.trials[0]
        for trial in self.trials[1:]:
            if trial.tokens_per_s > _NOTABLE * best.tokens_per_s:
                best = trial
        return best

    @property
    def overrides(self) -> tuple[str, ...]:
        """Overrides that turn the configuration into the best setting."""
        before = self.trials[0].settings
        return tuple(
            f"{'rewrite.engine' if name == 'cpu_threads' else 'rewrite.engine.args'}.{name}={value}"
            for name, value in self.best.settings.items()
            if value != before[name]
        )

    def run(self, seconds: float) -> None:
        """Try all settings."""
        threads = _fewer_threads(self.rewrite.engine)
        each_s = seconds / (1 + len(threads) + 2 * len(_ARGUMENTS))
        first = self._try({}, each_s)
        if first.problem is not None:
            raise IncompleteError(f"the engine cannot be measured as it is configured: {first.problem}")
        for count in threads:
            self._try({**self.best.settings, "cpu_threads": count}, each_s)
        for name in _ARGUMENTS:
            value = self.best.settings[name]
            for other in (value * 2, value // 2):
                settings = {**self.best.settings, name: other}
                if self.best.settings[name] == value and self._is_useful(settings):
                    self._try(settings, each_s)

    def _is_useful(self, settings: Mapping[str, int]) -> bool:
        """Whether vLLM takes a setting, and a rewriting run can fill its batches."""
        in_flight = REQUESTS_IN_FLIGHT * self.rewrite.engine.shards_in_flight
        return 1 <= settings["max_num_seqs"] <= min(in_flight, settings["max_num_batched_tokens"])

    def _try(self, settings: dict[str, int], seconds: float) -> Trial:
        """Run one setting; empty: as configured. A setting that does not run is a trial with a problem."""
        rewrite = _with_settings(self.rewrite, settings)
        started_s = time.monotonic()
        try:
            timeout_s = _RELEASE_TIMEOUT_S if self.trials else 0.0
            engine = start_engine(lambda: self.build_engine(rewrite, self.seed), timeout_s)
            start_s = time.monotonic() - started_s
            trial = self._measure(engine, rewrite, settings, seconds, start_s)
        except (EngineStartError, EngineDiedError) as error:
            trial = Trial(settings, problem=str(error) if not self.trials else one_line(error))
        self.trials.append(trial)
        self.on_trial(trial)
        return trial

    def _measure(
        self, engine: Any, rewrite: RewriteConfig, settings: dict[str, int], seconds: float, start_s: float
    ) -> Trial:
        prompts = prompts_of(self.heads, self.captions, self.seed)
        in_flight = REQUESTS_IN_FLIGHT * rewrite.engine.shards_in_flight
        with contextlib.closing(engine):
            if not settings:
                settings = {**_threads(rewrite.engine), **engine.batching}
            counts, counted_s = asyncio.run(_write(engine, prompts, rewrite.rewrites_per_set, in_flight, seconds))
        if not counts.output_tokens:
            reason = f"no text was finished in {counted_s:.0f} s; give it more --seconds"
            if counts.failed:
                reason = f"all {counts.failed} requests failed; `laclip rewrite` says why"
            return Trial(settings, start_s=start_s, problem=reason)
        return Trial(
            settings,
            tokens_per_s=counts.output_tokens / counted_s,
            requests_per_s=counts.requests / counted_s,
            cached_share=counts.cached_tokens / counts.prompt_tokens,
            start_s=start_s,
        )


async def _write(
    engine: ProbedEngine, prompts: Iterator[Prompt], draws: int, in_flight: int, seconds: float
) -> tuple[_Counts, float]:
    """Keep requests in flight for some time; the counts after the warm-up, and the seconds that they took."""
    counts, numbers = _Counts(), itertools.count()
    started_s = time.monotonic()
    warm_s = started_s + _WARM_SHARE * seconds

    async def ask() -> None:
        for prompt in prompts:
            try:
                answer = await engine.generate(prompt, draws, f"probe/{next(numbers)}")
            except RequestError:
                counts.failed += 1
                continue
            if time.monotonic() >= warm_s:
                counts.add(answer)

    tasks = [asyncio.create_task(ask()) for _ in range(in_flight)]
    try:
        done, _ = await asyncio.wait(
            tasks, timeout=started_s + seconds - time.monotonic(), return_when=asyncio.FIRST_EXCEPTION
        )
        counted_s = time.monotonic() - warm_s
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return counts, counted_s


def prompts_of(heads: Mapping[str, Sequence[Head]], captions: Sequence[tuple[str, str]], seed: int) -> Iterator[Prompt]:
    """The prompts of captions for every prompt set, again and again; some captions at a time, sorted by head.

    Args:
        heads: by prompt set.
        captions: (id, caption).
        seed: the experiment's seed, which decides each caption's head.
    """
    while True:
        for start in range(0, len(captions), _CHUNK_CAPTIONS):
            chunk = captions[start : start + _CHUNK_CAPTIONS]
            for name, of_set in heads.items():
                numbered = ((choose_head(name, sample_id, len(of_set), seed), text) for sample_id, text in chunk)
                for number, text in sorted(numbered, key=lambda entry: entry[0]):
                    yield of_set[number].prompt(text)


def _threads(engine: EngineConfig) -> dict[str, int]:
    """The setting of threads of an engine on a CPU; empty on a GPU."""
    return {} if has_gpu() else {"cpu_threads": engine.cpu_threads or os.cpu_count() or 1}


def _fewer_threads(engine: EngineConfig) -> list[int]:
    """Numbers of threads to try on a CPU: one less, which leaves a core to the rest of a run, and half as many."""
    threads = _threads(engine).get("cpu_threads", 1)
    return sorted({threads - 1, threads // 2} - {0}, reverse=True)


def _with_settings(rewrite: RewriteConfig, settings: Mapping[str, int]) -> RewriteConfig:
    arguments = {name: value for name, value in settings.items() if name in _ARGUMENTS}
    changes: dict[str, Any] = {"args": {**rewrite.engine.args, **arguments}}
    if "cpu_threads" in settings:
        changes["cpu_threads"] = settings["cpu_threads"]
    return rewrite.model_copy(update={"engine": rewrite.engine.model_copy(update=changes)})


def fragment(settings: Mapping[str, int]) -> str:
    """Settings as a YAML fragment of a configuration.

    >>> print(fragment({"cpu_threads": 1, "max_num_seqs": 256}), end="")
    rewrite:
      engine:
        cpu_threads: 1
        args:
          max_num_seqs: 256
    """
    arguments = {name: value for name, value in settings.items() if name in _ARGUMENTS}
    others = {name: value for name, value in settings.items() if name not in _ARGUMENTS}
    return yaml.safe_dump({"rewrite": {"engine": {**others, "args": arguments}}}, sort_keys=False)
