"""A line of the log on how far a long protocol is."""

import logging
import time
from dataclasses import dataclass, field

from laclip_ray import progress
from laclip_ray.progress.messages import Count

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0
"""Time between two lines. A shorter protocol has no line."""


@dataclass
class Progress:
    """Counts the steps of a protocol, and logs them with the time left, at most every ten seconds.

    The time left takes all steps for equally long. Fits of a larger C or of more images take longer.
    """

    what: str = "evaluation"
    """The protocol and the set: `linear-probe, pets`."""
    steps: int = 0
    """All steps."""
    part: str = ""
    """The running part, before each step in a line: `4 shots, draw 2 of 3, `."""
    _done: int = 0
    _started_s: float = field(default_factory=time.monotonic)
    _logged_s: float = field(default_factory=time.monotonic)

    def expect(self, steps: int) -> None:
        """Begin to count this many steps."""
        self.steps, self._done = steps, 0
        self._started_s = self._logged_s = time.monotonic()

    def add(self, doing: str, steps: int = 1) -> None:
        """Count finished steps.

        Args:
            doing: the finished work: `value 12 of 45 of C`.
            steps: their number.
        """
        self._done += steps
        now_s = time.monotonic()
        if progress.is_watched():
            note, is_over = f"{self.part}{doing}", self._done >= self.steps
            progress.tell(Count("protocol", self.what, self._done, self.steps, note, is_over))
            return
        if now_s - self._logged_s < LOG_EVERY_S:
            return
        self._logged_s = now_s
        left_s = (now_s - self._started_s) / self._done * max(0, self.steps - self._done)
        left = f"{left_s / 60:,.0f} min" if left_s >= 90 else f"{left_s:,.0f} s"
        logger.info("%s: %s%s; about %s left", self.what, self.part, doing, left)
