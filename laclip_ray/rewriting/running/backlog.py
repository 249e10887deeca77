"""The backlog of a rewriting run: shards without draws, without verdicts, or with a changed input.

Guarantees: finding the backlog starts no process and writes no file. A shard is never done again if its draws and
verdicts exist and were made from the same input: the same file, read with the same settings.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from laclip_ray import storage
from laclip_ray.config import BudgetConfig, DataConfig, Experiment, PictureGateConfig, RewriteConfig
from laclip_ray.config.rewriting import required_model
from laclip_ray.data.dataset_index import beside
from laclip_ray.data.preview import check_first_rows
from laclip_ray.data.reading import differences, reading_of, unrecorded
from laclip_ray.data.records import Shard
from laclip_ray.data.shard_table import ShardsByName
from laclip_ray.data.shards import list_shards
from laclip_ray.data.tokens import load_clip_tokenizer, tokenizer_spec
from laclip_ray.errors import UserError
from laclip_ray.models.hub import check_encoder, check_hub_model
from laclip_ray.models.loading import check_model
from laclip_ray.rewriting.engines.arguments import check_engine
from laclip_ray.rewriting.engines.heads import build_heads, choose_heads
from laclip_ray.rewriting.judging.gate import Gate, build_gate
from laclip_ray.rewriting.prices import check_budget
from laclip_ray.rewriting.prompting.head_choice import HeadNumbers, pack, pairs_of, unpack
from laclip_ray.rewriting.prompting.prompts import PromptSet, load_prompt_set
from laclip_ray.rewriting.recipe import build_recipe, gate_fingerprint, model_directory
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.committed import CommittedTable, Listed
from laclip_ray.rewriting.storing.gpu_time import spent_gpu_s
from laclip_ray.rewriting.storing.recipe_file import check_location
from laclip_ray.rewriting.storing.shard_reading import file_and_start
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import Origin, WorkUnit

_LARGEST_RANGE_ROWS = 10_000
"""Upper bound of `data.max_rows_per_shard`."""


@dataclass(frozen=True)
class Backlog:
    """The work left in a dataset, and the rewrite sets that it goes to."""

    experiment: Experiment
    shards: ShardsByName
    """All shards of the dataset, by name."""
    prompt_sets: dict[str, PromptSet]
    heads: dict[str, HeadNumbers]
    """By prompt set."""
    sets: dict[str, RewriteSet]
    """By prompt set."""
    committed: dict[str, CommittedTable]
    """By prompt set and shard: everything committed before the backlog was found."""
    listed: dict[str, Listed]
    """By prompt set: the files it was read from."""
    spent_gpu_s: float = 0.0
    """GPU-seconds of all draws in this output, including other prompt sets. Known only if there is a budget."""
    to_draw: list[WorkUnit] = field(default_factory=list)
    to_judge: list[WorkUnit] = field(default_factory=list)
    """Units with draws, but without verdicts of this gate."""
    to_compare: list[WorkUnit] = field(default_factory=list)
    """Units with draws, of a replaced file or read with other settings. Only reading it shows whether its captions
    changed."""

    @property
    def units(self) -> list[WorkUnit]:
        """All units left."""
        return [*self.to_draw, *self.to_judge, *self.to_compare]

    @property
    def untouched_shards(self) -> int:
        """Shards without a unit left."""
        return len(self.shards) - len({unit.shard for unit in self.units})

    @property
    def gates(self) -> dict[str, Callable[[], Gate]]:
        """By prompt set, a picklable function that builds its gate."""
        rewrite, clip_model = self.experiment.rewrite, self.experiment.model.name
        return {
            name: partial(_build_gate, rewrite, prompt_set, pack(self.heads[name]), clip_model)
            for name, prompt_set in self.prompt_sets.items()
        }


def _build_gate(rewrite: RewriteConfig, prompt_set: PromptSet, packed_heads: bytes, clip_model: str) -> Gate:
    return build_gate(rewrite, pairs_of(prompt_set, unpack(packed_heads)), clip_model)


def find_backlog(experiment: Experiment, retry: Collection[str] = ()) -> Backlog:
    """Find the work left.

    Args:
        experiment: the configuration.
        retry: reasons. Slots whose last draw ended with one of them are drawn again.

    Raises:
        UserError: the data, a prompt set, the model, the budget or the output directory cannot be used.
    """
    rewrite = experiment.rewrite
    prompt_sets = load_prompt_sets(rewrite.prompt_sets)
    check_engine(rewrite)
    check_budget(rewrite)
    shards = ShardsByName(list_shards(experiment.data, index=beside(experiment.output)))
    if rewrite.gate.picture is not None:
        has_pictures = experiment.data.image_column is not None or shards.table[0].format == "webdataset"
        _check_picture_gate(rewrite.gate.picture, has_pictures)
    gate = gate_fingerprint(rewrite.gate, experiment.model.name)
    sets = {name: RewriteSet(storage.join(experiment.rewrite_output, name), gate) for name in prompt_sets}
    heads = choose_heads(rewrite, prompt_sets, experiment.seed, experiment.rewrite_output)
    for name, prompt_set in prompt_sets.items():
        recipe = build_recipe(rewrite, prompt_set, experiment.seed, heads[name])
        check_location(sets[name].location, recipe, "rewrite.output")
    listed = {name: rewrite_set.listed() for name, rewrite_set in sets.items()}
    has_budget = rewrite.budget != BudgetConfig()
    spent = spent_gpu_s(experiment.rewrite_output, sets, listed) if has_budget else 0.0
    backlog = Backlog(experiment, shards, prompt_sets, heads, sets, {}, listed, spent)
    for name in sets:
        _add_units(backlog, name, tuple(sorted(retry)))
    # Shard by shard: each shard is complete for all prompt sets as early as possible.
    for units in (backlog.to_draw, backlog.to_judge, backlog.to_compare):
        units.sort(key=lambda unit: unit.shard)
    if not any(backlog.committed.values()):  # in a resumed run, the shards that are left may be the bad ones
        check_first_rows(experiment.data, shards.table, needs_images=rewrite.gate.picture is not None)
    return backlog


def load_prompt_sets(names: Collection[str]) -> dict[str, PromptSet]:
    """Read the prompt sets of `rewrite.prompt_sets`, by their own names.

    Raises:
        UserError: a set cannot be read, or two have the same name.
    """
    prompt_sets = [load_prompt_set(name) for name in names]
    by_name = {prompt_set.name: prompt_set for prompt_set in prompt_sets}
    if len(by_name) < len(prompt_sets):
        raise UserError("rewrite.prompt_sets: two sets have the same name")
    return by_name


def _check_picture_gate(picture: PictureGateConfig, has_pictures: bool) -> None:
    check_model(picture.model, picture.pretrained, "rewrite.gate.picture.model")
    if not has_pictures:
        raise UserError(
            "rewrite.gate.picture: needs pictures, and data.image_column is not set; set it, or turn the gate off"
        )


def check_prompts(backlog: Backlog) -> None:
    """Refuse settings that would stop the engine actors before their first shard.

    Raises:
        UserError: the hub has no such language model or sentence encoder, the model's chat template cannot ask for
            rewrites, or `model.name` has no tokeniser.
    """
    experiment = backlog.experiment
    if backlog.to_draw or backlog.to_compare:
        check_hub_model(model_directory(required_model(experiment.rewrite)), experiment.rewrite.revision)
        if (meaning := experiment.rewrite.gate.meaning) is not None:
            check_encoder(meaning)
    if experiment.rewrite.mode == "chat":
        build_heads(experiment.rewrite, backlog.prompt_sets, backlog.heads)
    try:
        load_clip_tokenizer(tokenizer_spec(experiment.model.name))
    except Exception as error:
        raise UserError(f"model.name: no tokeniser for {experiment.model.name!r}: {error}") from error


def _add_units(backlog: Backlog, name: str, retry: tuple[str, ...]) -> None:
    """Add the units of one prompt set, and its committed shards."""
    rewrite_set, listed, shards = backlog.sets[name], backlog.listed[name], backlog.shards
    drawn = store.of_shards(listed.drawn, shards)
    judged = store.of_shards(listed.committed, shards)
    done = {shard: revision for shard, revision in judged.items() if drawn[shard] == revision}
    backlog.committed[name] = committed = rewrite_set.committed(listed, done)
    unjudged = rewrite_set.origins({shard: revision for shard, revision in drawn.items() if shard not in done})
    # All new draws of a set share one revision, so a number pins a reader.
    next_revision = max(listed.drawn.values(), default=0) + 1
    changed: set[str] = set()
    lacking: set[str] = set()
    """Shards with fewer slots than wanted."""
    for shard_name, origin in chain(committed.origins(), unjudged.items()):
        if not _is_made_of(origin, shards[shard_name], backlog.experiment.data, committed):
            changed.add(shard_name)
        if origin.rewrites_per_set < backlog.experiment.rewrite.rewrites_per_set:
            lacking.add(shard_name)
    cuts = _Cuts({stored: revision for stored, revision in listed.drawn.items() if _may_be_cut(stored, drawn, changed)})
    for shard in shards.table:
        if shard.name not in drawn:
            backlog.to_draw.append(WorkUnit(name, shard.name, 0, cut_from=cuts.sources_of(shard)))
            continue
        revision = drawn[shard.name]
        is_committed = shard.name in done
        # Draws without verdicts are judged when the shard is read, so any of them may need the retry.
        is_retried = any(not is_committed or committed[shard.name].statistics.unfilled[reason] for reason in retry)
        cut_from = cuts.sources_of(shard) if shard.name in changed else ()
        if shard.name in lacking or is_retried:
            backlog.to_draw.append(WorkUnit(name, shard.name, next_revision, revision, retry, cut_from))
        elif shard.name in changed:
            backlog.to_compare.append(WorkUnit(name, shard.name, next_revision, revision, retry, cut_from))
        elif not is_committed:
            backlog.to_judge.append(WorkUnit(name, shard.name, revision))


def _may_be_cut(stored: str, drawn: Collection[str], changed: Collection[str]) -> bool:
    """Whether stored draws may hold rows of other shards than the one of this name."""
    return stored in changed or stored not in drawn


class _Cuts:
    """The shards of each file in a set, for files that are cut into other ranges now."""

    def __init__(self, stored: Mapping[str, int]) -> None:
        """Take the shards that may hold rows of others, each with its newest revision."""
        self._by_file: dict[str, list[tuple[int, str, int]]] = {}
        for name, revision in stored.items():
            file, start = file_and_start(name)
            self._by_file.setdefault(file, []).append((start, name, revision))

    def sources_of(self, shard: Shard) -> tuple[tuple[str, int], ...]:
        """Other shards that may hold draws of a shard's rows, each with its revision."""
        if shard.row_count is None:
            return ()
        file, _ = file_and_start(shard.name)
        first, end = shard.start_row - _LARGEST_RANGE_ROWS, shard.start_row + shard.row_count
        return tuple(
            (name, revision)
            for start, name, revision in sorted(self._by_file.get(file, []))
            if first < start < end and name != shard.name
        )


def _is_made_of(origin: Origin, shard: Shard, data: DataConfig, committed: CommittedTable) -> bool:
    """Whether draws were made from this file, read with these settings."""
    if origin.file_identity != shard.file_identity:
        return False
    now = reading_of(shard, data)
    if origin.reading is not None:
        return not differences(origin.reading, now)
    # Written by an earlier version, which did not record the settings. They are taken for the same if the number of
    # rows is.
    content = committed.get(shard.name)
    has_rows = content is None or shard.row_count in (None, content.statistics.captions)
    return has_rows and not differences(unrecorded(now), now)
