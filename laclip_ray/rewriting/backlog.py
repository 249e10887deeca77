"""What a rewriting run has to do: the shards that lack draws, lack verdicts, or no longer match their input.

Guarantees: planning starts and writes nothing. A shard whose draws and verdicts are there, made from the same input,
is never done again.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from laclip_ray import storage
from laclip_ray.config import BudgetConfig, Experiment
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import list_shards
from laclip_ray.data.tokens import load_clip_tokenizer, tokenizer_spec
from laclip_ray.errors import UserError
from laclip_ray.rewriting import store
from laclip_ray.rewriting.engine import build_heads
from laclip_ray.rewriting.engine_arguments import check_engine
from laclip_ray.rewriting.picture_gate import check_model
from laclip_ray.rewriting.prices import check_budget
from laclip_ray.rewriting.prompts import PromptSet, load_prompt_set
from laclip_ray.rewriting.recipe import build_recipe, gate_fingerprint
from laclip_ray.rewriting.store import Committed, RewriteSet
from laclip_ray.rewriting.tables import WorkUnit


@dataclass(frozen=True)
class Backlog:
    """What there is to do, and where it goes."""

    experiment: Experiment
    shards: dict[str, Shard]
    prompt_sets: dict[str, PromptSet]
    sets: dict[str, RewriteSet]
    committed: dict[str, dict[str, Committed]]
    """By prompt set and shard: what is done, as far as it was found."""
    spent_gpu_s: float = 0.0
    """What everything drawn into this output took, of other prompt sets too; only known where there is a budget."""
    to_draw: list[WorkUnit] = field(default_factory=list)
    to_judge: list[WorkUnit] = field(default_factory=list)
    """Shards with draws, but no verdicts of this gate on them."""
    to_compare: list[WorkUnit] = field(default_factory=list)
    """Done, but from a file that has been replaced: whether the captions changed is seen by reading them."""

    @property
    def units(self) -> list[WorkUnit]:
        """All that is to be done."""
        return [*self.to_draw, *self.to_judge, *self.to_compare]

    @property
    def untouched_shards(self) -> int:
        """Shards for which there is nothing to do."""
        return len(self.shards.keys() - {unit.shard for unit in self.units})


def find_backlog(experiment: Experiment, retry: Collection[str] = ()) -> Backlog:
    """Find what is left to do.

    Args:
        experiment: the configuration.
        retry: reasons; rewrites that ended with one of them are to be drawn again.

    Raises:
        UserError: the data, a prompt set, the model, the budget or the output place is not usable.
    """
    rewrite = experiment.rewrite
    prompt_sets = [load_prompt_set(name) for name in rewrite.prompt_sets]
    by_name = {prompt_set.name: prompt_set for prompt_set in prompt_sets}
    if len(by_name) < len(prompt_sets):
        raise UserError("rewrite.prompt_sets: two sets have the same name")
    check_engine(rewrite)
    check_budget(rewrite)
    shards = {shard.name: shard for shard in list_shards(experiment.data)}
    if rewrite.gate.picture is not None:
        check_model(rewrite.gate.picture.model, rewrite.gate.picture.pretrained, "rewrite.gate.picture")
        if experiment.data.image_column is None and next(iter(shards.values())).format != "webdataset":
            raise UserError("rewrite.gate.picture: needs pictures, and data.image_column is not set")
    gate = gate_fingerprint(rewrite.gate)
    sets = {name: RewriteSet(storage.join(experiment.rewrite_output, name), gate) for name in by_name}
    for name, prompt_set in by_name.items():
        recipe = build_recipe(rewrite, prompt_set, experiment.seed)
        store.check_location(sets[name].location, recipe, "rewrite.output")
    spent_gpu_s = _spent_gpu_s(experiment) if rewrite.budget != BudgetConfig() else 0.0
    work = Backlog(experiment, shards, by_name, sets, {}, spent_gpu_s)
    for name in sets:
        _plan_set(work, name, tuple(sorted(retry)))
    # Shard by shard, so that a shard is complete for every set as early as can be.
    for units in (work.to_draw, work.to_judge, work.to_compare):
        units.sort(key=lambda unit: unit.shard)
    return work


def check_prompts(experiment: Experiment, prompt_sets: Iterable[PromptSet]) -> None:
    """Refuse what would stop the engines' actors before their first shard.

    Raises:
        UserError: the model has no chat template that can ask for rewrites, or open_clip no tokeniser of `model.name`.
    """
    if experiment.rewrite.mode == "chat":
        build_heads(experiment.rewrite, prompt_sets, experiment.seed)
    try:
        load_clip_tokenizer(tokenizer_spec(experiment.model.name))
    except Exception as error:
        raise UserError(f"model.name: no tokeniser for {experiment.model.name!r}: {error}") from error


def _plan_set(work: Backlog, name: str, retry: tuple[str, ...]) -> None:
    rewrite_set = work.sets[name]
    drawn = rewrite_set.drawn_revisions()
    revisions = rewrite_set.committed_revisions()
    done = {
        shard: revision for shard, revision in revisions.items() if shard in work.shards and drawn[shard] == revision
    }
    work.committed[name] = known = rewrite_set.describe(done)
    unjudged = rewrite_set.origins({shard: drawn[shard] for shard in drawn if shard not in done})
    # What is drawn again is one revision for the whole set, so that a reader is pinned by a number.
    next_revision = max(drawn.values(), default=0) + 1
    for shard in work.shards.values():
        if shard.name not in drawn:
            work.to_draw.append(WorkUnit(name, shard.name, 0))
            continue
        revision = drawn[shard.name]
        origin = known[shard.name].origin if shard.name in known else unjudged[shard.name]
        more = origin.rewrites_per_set < work.experiment.rewrite.rewrites_per_set
        # What is not judged yet is judged where it is read.
        again = any(shard.name not in known or known[shard.name].statistics.unfilled[reason] for reason in retry)
        unit = WorkUnit(name, shard.name, next_revision, previous=revision, retry=retry)
        if more or again:
            work.to_draw.append(unit)
        elif origin.file_identity != shard.file_identity:
            work.to_compare.append(unit)
        elif shard.name not in known:
            work.to_judge.append(WorkUnit(name, shard.name, revision))


def _spent_gpu_s(experiment: Experiment) -> float:
    """The GPU-seconds of all draws in the output, whatever prompt set they are of and whatever gate judged them."""
    spent = 0.0
    for name in storage.list_directories(experiment.rewrite_output):
        rewrite_set = RewriteSet(storage.join(experiment.rewrite_output, name), gate="")
        if storage.exists(storage.join(rewrite_set.location, "recipe.json")):
            spent += sum(origin.gpu_s for origin in rewrite_set.origins(rewrite_set.drawn_revisions()).values())
    return spent
