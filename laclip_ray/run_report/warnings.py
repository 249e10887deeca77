"""The warnings at the top of a report, each as one sentence. Pure."""

from collections.abc import Iterator

from laclip_ray.data.held_out import HELD_OUT
from laclip_ray.redaction import redact
from laclip_ray.run_report.facts import RunFacts, counts_in

_FEW_ACCEPTED = 0.5
_P_GAP = 0.05
"""Between the requested p and the shown one; half of it may be chance on a small run."""
_MANY_SKIPPED = 0.05
_FAILURES_NAMED = 3


def warnings_of(run: RunFacts) -> list[str]:
    """The warnings of a run."""
    found = [*_states(run), *_missing(run), *_rewriting(run), *_training(run)]
    found += [f"Could not be read: {problem}" for problem in run.problems]
    return [redact(warning) for warning in found]


def _states(run: RunFacts) -> Iterator[str]:
    status = run.status
    parts = {
        "Rewriting": status.rewriting,
        "Training": status.training,
        "The sweep": status.sweep,
        "The evaluation": status.evaluation,
    }
    for name, part in parts.items():
        if part is None:
            continue
        if part.state == "running":
            yield f"{name} is running: this page shows its state when it was written."
        elif part.state == "interrupted":
            yield f"{name} was interrupted; the same command resumes it."
        elif part.state == "incomplete":
            yield f"{name} ended with work left."


def _missing(run: RunFacts) -> Iterator[str]:
    rewriting, evaluation = run.status.rewriting, run.status.evaluation
    if rewriting is not None and rewriting.failed:
        named = list(rewriting.failures.items())[:_FAILURES_NAMED]
        reasons = "; ".join(f"{name}: {reason}" for name, reason in named)
        yield f"Units (shard x prompt set) without rewrites: {rewriting.failed:,}; {reasons}."
    if evaluation is not None and evaluation.failures:
        named_sets = "; ".join(
            f"{task}, {name}: {reason}" for task, name, reason in evaluation.failures[:_FAILURES_NAMED]
        )
        yield f"Missing results: {len(evaluation.failures):,}; {named_sets}."


def _rewriting(run: RunFacts) -> Iterator[str]:
    for each in run.rewriting.sets if run.rewriting is not None else ():
        counts = each.statistics
        slots = counts.accepted + counts.unfilled.total()
        if slots and counts.accepted < _FEW_ACCEPTED * slots:
            reason, count = counts.unfilled.most_common(1)[0]
            yield (
                f"{each.name}: only {counts.accepted / slots:.0%} of the rewrites were accepted; the most frequent "
                f"reason is {reason} ({count:,})."
            )
        if each.counted_shards < each.shards:
            yield f"{each.name}: counts are of {each.counted_shards:,} of its {each.shards:,} committed shards."


def _training(run: RunFacts) -> Iterator[str]:
    status = run.status.training
    if status is not None and status.stopped_at_step is not None:
        yield f"Training stopped: the loss or a weight of step {status.stopped_at_step:,} is not finite."
    if run.training is None or not run.training.lines:
        return
    last = run.training.lines[-1]
    p, shown = last.get("p"), last.get("p_effective")
    if isinstance(p, int | float) and isinstance(shown, int | float) and p - shown > _P_GAP:
        reasons = ", ".join(
            f"{name.replace('_', ' ')} {count:,}" for name, count in counts_in(last, "fallbacks").items() if count
        )
        yield f"Rewrites were shown with p = {shown:.3f}, less than the requested {p:.3f}: {reasons or 'by chance'}."
    if batches := last.get("skipped_batches"):
        yield f"{batches:,} batches were skipped, because their loss or gradient was not finite."
    skipped = {name: count for name, count in counts_in(last, "skipped").items() if count and name != HELD_OUT}
    samples = last.get("samples") or 0
    if sum(skipped.values()) > _MANY_SKIPPED * (samples + sum(skipped.values())):
        reasons = ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in skipped.items())
        yield f"{sum(skipped.values()):,} samples were skipped in training: {reasons}."
