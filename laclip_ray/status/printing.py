"""Print the state of an output. Texts from files are printed without secrets and with control characters escaped."""

from rich.console import Console

from laclip_ray.printable import printable_line
from laclip_ray.redaction import redact
from laclip_ray.status.evaluation import EvaluationStatus
from laclip_ray.status.outputs import OutputStatus
from laclip_ray.status.owner import Owner
from laclip_ray.status.rewriting import RewritingStatus, SetStatus
from laclip_ray.status.sweep import SweepStatus
from laclip_ray.status.training import TrainingStatus

_FAILURES_SHOWN = 5


def print_status(console: Console, status: OutputStatus) -> None:
    """Print a few lines for each part, and the files that could not be read."""
    lines: list[str] = []
    if status.rewriting is not None:
        lines += rewriting_lines(status.rewriting)
    if status.training is not None:
        lines += training_lines(status.training)
    if status.sweep is not None:
        lines += sweep_lines(status.sweep)
    if status.evaluation is not None:
        lines += evaluation_lines(status.evaluation)
    if status.problems:
        lines += ["could not be read:", *(f"  {problem}" for problem in status.problems)]
    for line in lines:
        console.print(printable_line(redact(line)), markup=False, emoji=False, highlight=False, soft_wrap=True)


def rewriting_lines(status: RewritingStatus) -> list[str]:
    """The state of rewriting."""
    lines = _head("rewriting", status.location, status.state, status.owner)
    if status.state == "never started":
        return lines
    facts = [f"{status.units_done:,} of {_number(status.units)} units (shard x prompt set) are committed"]
    if status.newest_commit_age_s is not None:
        facts.append(f"the newest {duration(status.newest_commit_age_s)} ago")
    if status.shards_per_hour is not None:
        facts.append(f"{status.shards_per_hour:,.3g} shards of each set an hour")
    lines.append(f"  {', '.join([*facts, *_left(status.left_s)])}")
    lines += [_set_line(each, status.shards) for each in status.sets]
    if status.failed:
        kind = "given up" if status.state in ("running", "interrupted") else "not done"
        lines.append(f"  {status.failed:,} units (shard x prompt set) were {kind}:")
        lines += [f"    {name}: {reason}" for name, reason in list(status.failures.items())[:_FAILURES_SHOWN]]
        if (more := status.failed - _FAILURES_SHOWN) > 0:
            lines.append(f"    and {more:,} more")
    return lines


def _set_line(each: SetStatus, shards: int | None) -> str:
    of_all = "" if shards is None else f" of {shards:,}"
    if each.counts is None:
        return f"  {each.name}: {each.shards_done:,}{of_all} shards; accepted rewrites are not recorded yet"
    share = "" if each.accepted_share is None else f" ({each.accepted_share:.1%})"
    return (
        f"  {each.name}: {each.shards_done:,}{of_all} shards, {each.counts.captions:,} captions, "
        f"{each.counts.accepted:,} of {each.counts.slots:,} rewrites accepted{share}"
    )


def training_lines(status: TrainingStatus) -> list[str]:
    """The state of a training run."""
    lines = _head("training", status.location, status.state, status.owner)
    if status.state == "never started":
        return lines
    if status.step is None:
        lines.append("  no line of metrics yet")
    else:
        lines.append(f"  {', '.join([*_progress(status), *_left(status.left_s)])}")
    if status.metrics_age_s is not None:
        lines.append(f"  metrics written {duration(status.metrics_age_s)} ago")
    if status.stopped_at_step is not None:
        lines.append(f"  stopped: the loss or a weight of step {status.stopped_at_step:,} is not finite")
    if status.export is not None:
        lines.append(f"  model: {status.export}")
    elif status.checkpoint is not None:
        lines.append(f"  newest checkpoint: {status.checkpoint}")
    else:
        lines.append("  no checkpoint yet")
    return lines


def _progress(status: TrainingStatus) -> list[str]:
    of_epochs = "" if status.epochs is None else f" of {status.epochs}"
    of_steps = "" if status.steps is None else f" of {status.steps:,}"
    facts = [] if status.epoch is None else [f"epoch {status.epoch:.2f}{of_epochs}"]
    facts.append(f"step {status.step:,}{of_steps}")
    if status.loss is not None:
        facts.append(f"loss {status.loss:.4f}")
    if status.images_per_s is not None:
        facts.append(f"{status.images_per_s:,.0f} images/s")
    return facts


def sweep_lines(status: SweepStatus) -> list[str]:
    """The state of a sweep."""
    lines = _head("sweep", status.location, status.state, status.owner)
    if status.state == "never started":
        return lines
    facts = [f"{status.points_done:,} of {_number(status.points)} points are done ({status.points_begun:,} begun)"]
    if status.points_ended_early:
        facts.append(f"{status.points_ended_early:,} of them ended early")
    facts.append(f"{status.runs_done:,} of {_number(status.runs)} runs are done")
    lines.append(f"  {', '.join([*facts, *_left(status.left_s)])}")
    return lines


def evaluation_lines(status: EvaluationStatus) -> list[str]:
    """The state of an evaluation."""
    again = "; the same command measures again, with the features that are stored"
    lines = _head("evaluation", status.location, status.state, status.owner, again)
    if status.state == "never started":
        return lines
    facts = [f"{status.sets_done:,} of {_number(status.sets)} sets are measured"]
    if status.newest_result_age_s is not None:
        facts.append(f"the newest {duration(status.newest_result_age_s)} ago")
    lines.append(f"  {', '.join([*facts, *_left(status.left_s)])}")
    if status.failures:
        lines.append(f"  {len(status.failures):,} results are missing:")
        lines += [f"    {task}, {name}: {reason}" for task, name, reason in status.failures[:_FAILURES_SHOWN]]
        if (more := len(status.failures) - _FAILURES_SHOWN) > 0:
            lines.append(f"    and {more:,} more")
    return lines


def _head(
    part: str, location: str, state: str, owner: Owner | None, again: str = "; the same command resumes it"
) -> list[str]:
    """The lines with the state and the owner."""
    resumes = again if state == "interrupted" else ""
    lines = [f"{part} in {location}: {state}{resumes}"]
    if owner is not None:
        lines.append(f"  owner: {owner.name or 'not known, as the lease is damaged'}; {owner.verdict}")
    return lines


def _number(count: int | None) -> str:
    return "an unknown number of" if count is None else f"{count:,}"


def _left(left_s: float | None) -> list[str]:
    return [] if left_s is None else [f"about {duration(left_s)} left"]


def duration(seconds: float) -> str:
    """A duration for a person.

    >>> duration(40), duration(640), duration(5 * 3600 + 640), duration(4 * 86_400)
    ('40 s', '11 min', '5 h 11 min', '4.0 days')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{seconds / 86_400:.1f} days"
