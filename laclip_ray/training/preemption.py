"""Ray's notice that it will take nodes away: when to save a checkpoint, and when to stop making steps.

A spot node goes seconds after its notice: on some clouds 30, on others 120. Ray Train then restarts the workers from
the newest checkpoint. Steps after that checkpoint would be made again. So workers save twice: at the notice, in case
the node goes early, and shortly before the deadline. After the second checkpoint they make no more steps (hand-over).
If the notice leaves no time for two, they hand over at once.

All workers look at the same steps and react alike. The log may have a line only every few minutes, so looks have a
rhythm of their own. A look waits for all workers and takes some milliseconds.
"""

import math
import time
from enum import Enum
from typing import NamedTuple

from laclip_ray.training.worker_reports import gather

LOOK_S = 2.0
"""Time between two looks, about: whole steps, and less than a step is not possible. After a notice, half of it."""

REGISTER_S = 4.0
"""How long Ray Train may take to register a checkpoint after its upload: it looks at its workers every 2 s."""

_ASSUMED_SAVE_S = 2.0
"""Time to save and upload a checkpoint, before one was measured."""

_UNKNOWN_DEADLINE_S = 120.0
"""When Ray Train restarts the workers after a notice without a deadline."""


class Reaction(Enum):
    """What workers do after a look."""

    NOTHING = "nothing"
    SAVE = "save"
    """Save a checkpoint and train on."""
    HAND_OVER = "hand over"
    """Save a checkpoint and make no more steps."""


class _Look(NamedTuple):
    """What one worker sees."""

    step_s: float
    """Mean since its last look."""
    remaining_s: float
    """Until the deadline, by this worker's clock; infinite without a notice."""
    since_save_s: float
    """Since the notice's checkpoint was begun; 0 without one."""
    is_uploading: bool
    """Whether its newest checkpoint is being uploaded."""


class PreemptionNotice:
    """Watches for the notice. Each worker has one, and all call it after the same steps."""

    def __init__(self, step: int) -> None:
        """Begin after a step."""
        self._looked_step, self._looked_s = step, time.monotonic()
        self._due_step = step + 1
        self._deadline_s: float | None = None
        """Unix time of the newest notice's deadline."""
        self._handed_over_s: float | None = None
        """The deadline that the workers handed over for."""
        self._saved_s: float | None = None
        """When the notice's checkpoint was begun, until its time is measured."""
        self._save_s = _ASSUMED_SAVE_S

    @property
    def remaining_s(self) -> float:
        """Time until the deadline; infinite without a notice."""
        return math.inf if self._deadline_s is None else self._deadline_s - time.time()

    def look(self, step: int, is_uploading: bool) -> Reaction:
        """Look if it is time to, after a step.

        Args:
            step: steps done.
            is_uploading: whether this worker's newest checkpoint is being uploaded.
        """
        if step < self._due_step:
            return Reaction.NOTHING
        is_new = self._ask_ray()
        now_s = time.monotonic()
        looks = gather(
            _Look(
                step_s=(now_s - self._looked_s) / max(1, step - self._looked_step),
                remaining_s=self.remaining_s,
                since_save_s=0.0 if self._saved_s is None else now_s - self._saved_s,
                is_uploading=is_uploading,
            )
        )
        # The slowest worker's, so that all have the same next step.
        step_s = max(look.step_s for look in looks)
        pause_s = LOOK_S if self._deadline_s is None else LOOK_S / 2
        self._looked_step, self._looked_s = step, now_s
        self._due_step = step + max(1, math.floor(pause_s / max(step_s, 1e-6)))
        is_uploading = any(look.is_uploading for look in looks)
        if self._saved_s is not None and not is_uploading:
            self._save_s, self._saved_s = max(look.since_save_s for look in looks), None
        remaining_s = min(look.remaining_s for look in looks)
        return self._react(is_new, is_uploading, remaining_s, next_look_s=pause_s + step_s)

    def _ask_ray(self) -> bool:
        """Ask Ray Train for a notice, which waits for all workers; whether there is a new one."""
        import ray.train

        info = ray.train.get_preemption_info()
        if info is None:
            return False
        before_s = self._deadline_s
        if info.deadline_ms is not None:
            self._deadline_s = info.deadline_ms / 1000
        elif before_s is None:
            self._deadline_s = time.time() + _UNKNOWN_DEADLINE_S
        return before_s is None

    def _react(self, is_new: bool, is_uploading: bool, remaining_s: float, next_look_s: float) -> Reaction:
        if self._deadline_s is None or self._handed_over_s == self._deadline_s:
            return Reaction.NOTHING
        needed_s = 2 * self._save_s + REGISTER_S
        if is_new and remaining_s > 2 * needed_s + next_look_s:
            self._saved_s = time.monotonic()
            return Reaction.SAVE
        # A checkpoint that waits for another upload, or that starts too late, would be lost with the steps before it.
        is_possible = not is_uploading and remaining_s > self._save_s
        if is_new or (is_possible and remaining_s <= needed_s + next_look_s):
            self._handed_over_s = self._deadline_s
            return Reaction.HAND_OVER
        return Reaction.NOTHING
