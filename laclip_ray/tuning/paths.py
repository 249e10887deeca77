"""Where a sweep keeps its files."""

from dataclasses import dataclass

from laclip_ray import storage

RECORD_FILE = "sweep.json"
"""The record of shared settings. A rerun recognises the sweep by it."""
REPORT_FILE = "sweep.html"
"""The page with the results."""
_POINT_FILE = "point.json"
_STAGES_DIRECTORY = "stages"


@dataclass(frozen=True)
class SweepPaths:
    """The files of one sweep, as URLs below its location.

    >>> SweepPaths("out/tune").stage("p0.5", seed=1, epoch=3)
    'out/tune/trials/p0.5/seed1/stages/epoch-00003.json'
    """

    location: str
    """`tune.output`: a directory or URL."""

    @property
    def record(self) -> str:
        """The shared settings and the revisions of the rewrite sets."""
        return storage.join(self.location, RECORD_FILE)

    @property
    def rows(self) -> str:
        """The rows of each shard, counted once for all runs."""
        return storage.join(self.location, "rows.json")

    @property
    def table(self) -> str:
        """One row per run and evaluation."""
        return storage.join(self.location, "sweep.csv")

    @property
    def plot(self) -> str:
        """Each metric against p."""
        return storage.join(self.location, "sweep.svg")

    @property
    def best(self) -> str:
        """The configuration of the best complete point."""
        return storage.join(self.location, "best.yaml")

    @property
    def report(self) -> str:
        """The page with the results."""
        return storage.join(self.location, REPORT_FILE)

    @property
    def snapshots(self) -> str:
        """The directory that Ray Tune writes to. Nothing in it is read."""
        return storage.join(self.location, "ray")

    @property
    def trials(self) -> str:
        """The directory of all points."""
        return storage.join(self.location, "trials")

    def point(self, point: str) -> str:
        """The directory of a point, by its name."""
        return storage.join(self.trials, point)

    def values(self, point: str) -> str:
        """The values of a point, written when it begins."""
        return storage.join(self.point(point), _POINT_FILE)

    def ended_early(self, point: str) -> str:
        """The epoch after which the scheduler ended a point."""
        return storage.join(self.point(point), "ended_early.json")

    def run(self, point: str, seed: int) -> str:
        """The directory of one training run."""
        return storage.join(self.point(point), f"seed{seed}")

    def stage(self, point: str, seed: int, epoch: int) -> str:
        """The results of a run after an epoch."""
        return storage.join(self.run(point, seed), _STAGES_DIRECTORY, f"epoch-{epoch:05d}.json")

    def is_values(self, url: str) -> bool:
        """Whether a file below `trials` holds the values of a point."""
        return url.endswith(f"/{_POINT_FILE}")

    def is_stage(self, url: str) -> bool:
        """Whether a file below `trials` holds the results of a stage."""
        return f"/{_STAGES_DIRECTORY}/epoch-" in url
