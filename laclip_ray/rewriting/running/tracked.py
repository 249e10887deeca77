"""What trackers learn of rewriting, once it has ended: counts by set and reason, cost, and a sample of draws."""

from laclip_ray.rewriting.recipe import build_recipe, fingerprint_of
from laclip_ray.rewriting.running.backlog import Backlog
from laclip_ray.rewriting.running.result import RewritingResult
from laclip_ray.rewriting.sample_table import ACCEPTED, sample_table
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.tracking.choice import begin_trackers
from laclip_ray.tracking.tracker import Cell, Outcome, Table
from laclip_ray.tracking.values import numbers


def track_rewriting(backlog: Backlog, result: RewritingResult) -> None:
    """Tell trackers how a run of rewriting ended. A later run into the same output continues theirs."""
    experiment = backlog.experiment
    if not experiment.track.report_to:
        return
    lineage = [
        {
            "prompt_set": name,
            "fingerprint": fingerprint_of(
                build_recipe(experiment.rewrite, prompt_set, experiment.seed, backlog.heads[name])
            ),
            "gate": backlog.sets[name].gate,
        }
        for name, prompt_set in backlog.prompt_sets.items()
    ]
    trackers = begin_trackers(experiment, "rewrite", experiment.rewrite_output, {"rewrite_sets": lineage})
    committed = {backlog.sets[name]: revisions for name, revisions in result.sampled.items()}
    of_data = experiment.data, len(backlog.shards), experiment.output
    trackers.table(lambda: outcomes(result.statistics))
    trackers.table(lambda: sample_table(committed, *of_data, experiment.track, experiment.seed))
    trackers.summary(
        numbers({name: value for name, value in result.to_json().items() if name != "missing"}, "rewrite/")
    )
    trackers.end(Outcome.FINISHED if result.incomplete is None else Outcome.FAILED)


def outcomes(statistics: dict[str, Statistics]) -> Table:
    """A row for each set and reason: how many slots have a rewrite, or why not."""
    rows: list[list[Cell]] = [
        [name, outcome, count, count / max(1, of_set.accepted + of_set.unfilled.total())]
        for name, of_set in statistics.items()
        for outcome, count in ((ACCEPTED, of_set.accepted), *of_set.unfilled.most_common())
    ]
    return Table("outcomes", ("prompt_set", "outcome", "count", "share"), rows)
