"""The state of a run in words: one line for each piece of work. Pure functions."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laclip_ray.live.board import Board, CountState, OpenPhase, RewritingState, TrainingState
from laclip_ray.printable import printable_line
from laclip_ray.progress.messages import Phase

_TRAINING_NUMBERS = (
    ("loss", "loss {:.4f}"),
    ("learning_rate", "lr {:.1e}"),
    ("logit_scale", "scale {:.1f}"),
    ("images_per_s", "{:,.0f} images/s"),
    ("waiting_share", "waiting {:.0%}"),
    ("p", "p {:g}"),
    ("p_effective", "shown {:.3f}"),
)
"""Numbers of a line of metrics, and how they are written."""
_RUN_NUMBERS = (
    ("rewritten_shards", "{:,.0f} shards rewritten"),
    ("lag_shards", "lag {:,.0f} shards"),
    ("late_share_in_epoch", "late {:.0%}"),
)
"""The same, where rewriting runs beside training."""


@dataclass(frozen=True)
class Line:
    """One piece of work."""

    name: str
    done_share: float | None
    """From 0 to 1; None: not known."""
    details: str

    def __str__(self) -> str:
        return f"{self.name}: {self.details}"


def lines_of(board: Board, now_s: float) -> list[Line]:
    """What happens now, in the order of the data's way: phases, rewriting, training, counts."""
    lines = [_phase_line(phase, now_s) for phase in board.phases.values()]
    if board.rewriting is not None:
        lines.append(_rewriting_line(board.rewriting, now_s))
    many = len(board.trainings) > 1
    lines += [_training_line(state, now_s, many) for state in board.trainings.values()]
    lines += [_count_line(state, now_s) for state in board.counts.values()]
    return lines or [Line("working", None, in_words_s(now_s - board.began_s))]


def phase_end(phase: Phase) -> str:
    """The line that stays after a phase."""
    failed = " failed after" if phase.state == "failed" else ""
    return printable_line(f"{phase.text} ...{failed} {in_words_s(phase.elapsed_s)}")


def in_words_s(seconds: float) -> str:
    """A duration, as precise as one wants to read it.

    >>> [in_words_s(seconds) for seconds in (0.31, 41.2, 754, 9000, 200_000)]
    ['0.3 s', '41 s', '12 min 34 s', '2 h 30 min', '2 d 7 h']
    """
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit_s, unit, part_s, part in ((60, "min", 1, "s"), (3_600, "h", 60, "min"), (86_400, "d", 3_600, "h")):
        if whole < unit_s * (60 if unit != "h" else 24) or unit == "d":
            return f"{whole // unit_s} {unit} {whole % unit_s // part_s} {part}"
    raise AssertionError


def _phase_line(phase: OpenPhase, now_s: float) -> Line:
    return Line(printable_line(phase.text), None, in_words_s(now_s - phase.began_s))


def _rewriting_line(state: RewritingState, now_s: float) -> Line:
    driver, done, total = state.driver, state.done, state.total
    unit = "captions" if driver.sets == 1 else f"captions x {driver.sets} prompt sets"
    if total is None:
        progress = f"{done:,} {unit}; {driver.units_done:,} of {driver.units:,} shards"
    else:
        about = "" if driver.units - driver.units_done <= len(state.units) else "about "
        progress = f"{done:,} of {about}{total:,} {unit}"
    parts = [progress, *_pace(state.pace.per_s(now_s), state.pace.left_s(total, now_s) if total else None, "")]
    parts += _share("accepted", state.accepted_share) + _share("cached", state.cached_share)
    if state.engines:
        parts.append("1 engine" if len(state.engines) == 1 else f"{len(state.engines)} engines")
    parts += [driver.spent] if driver.spent else []
    parts += [f"{driver.failed:,} shards given up"] if driver.failed else []
    return Line("rewriting", done / total if total else None, printable_line(", ".join(parts)))


def _training_line(state: TrainingState, now_s: float, is_named: bool) -> Line:
    start, row = state.start, state.row
    # Steps since the last line of metrics count too.
    epoch = start.epochs * state.step / start.steps if start.steps else 0.0
    parts = [f"step {state.step:,} of {start.steps:,}", f"epoch {epoch:.2f} of {start.epochs}"]
    parts += _numbers(row)
    left_s = state.pace.left_s(start.steps, now_s)
    parts += [f"{in_words_s(left_s)} left"] if left_s is not None else []
    name = f"training {printable_line(_short(start.output))}" if is_named else "training"
    return Line(name, state.step / start.steps if start.steps else None, printable_line(", ".join(parts)))


def _numbers(row: Mapping[str, Any]) -> list[str]:
    """The numbers of a line of metrics, if present."""
    shown = _TRAINING_NUMBERS + (_RUN_NUMBERS if "rewritten_shards" in row else ())
    return [text.format(value) for name, text in shown if (value := _number(row.get(name))) is not None]


def _count_line(state: CountState, now_s: float) -> Line:
    count = state.count
    of = f"{count.done:,}" if count.total is None else f"{count.done:,} of {count.total:,}"
    left_s = state.pace.left_s(count.total, now_s) if count.total is not None else None
    parts = [of, *_pace(state.pace.per_s(now_s), left_s, ""), *([count.note] if count.note else [])]
    share = count.done / count.total if count.total else None
    return Line(printable_line(count.what), share, printable_line(", ".join(parts)))


def _pace(per_s: float | None, left_s: float | None, unit: str) -> list[str]:
    rate = []
    if per_s is not None:
        rate = [
            f"{per_s:,.0f}{unit}/s"
            if per_s >= 10
            else f"{per_s:.1f}{unit}/s"
            if per_s >= 0.1
            else f"{per_s * 60:.1f}{unit}/min"
        ]
    return rate + ([f"{in_words_s(left_s)} left"] if left_s is not None else [])


def _share(name: str, share: float | None) -> list[str]:
    return [f"{name} {share:.0%}"] if share is not None else []


def _number(value: Any) -> float | None:
    """A finite number; None for anything else, which a forged line may hold."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def _short(output: str) -> str:
    """The last two parts of an output's path."""
    return "/".join(output.rstrip("/").split("/")[-2:])
