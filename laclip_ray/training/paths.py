"""Where a training run keeps its files."""

from dataclasses import dataclass

from laclip_ray import storage
from laclip_ray.models.files import EXPORT_DIRECTORY

RAY_RUN_NAME = "ray"
"""The name of the run in Ray Train, and of its directory."""
RECORD_FILE = "experiment.json"
"""The run's record: a rerun recognises its run by this file."""


@dataclass(frozen=True)
class RunPaths:
    """The files of one training run, as URLs below its output.

    >>> RunPaths("out/train").epoch_export(3)
    'out/train/epochs/epoch-00003'
    """

    output: str
    """`train.output`: a directory or URL."""

    @property
    def experiment(self) -> str:
        """The configuration of the newest start. It identifies the run."""
        return storage.join(self.output, RECORD_FILE)

    @property
    def model(self) -> str:
        """The model that the run trains: architecture and image preprocessing."""
        return storage.join(self.output, "model.json")

    @property
    def rows(self) -> str:
        """The rows of each shard, counted when the run began."""
        return storage.join(self.output, "rows.json")

    @property
    def rewrite_revisions(self) -> str:
        """The revision of each rewrite set that the run reads."""
        return storage.join(self.output, "rewrite_revisions.json")

    @property
    def metrics(self) -> str:
        """One JSON object per logged step."""
        return storage.join(self.output, "metrics.jsonl")

    @property
    def tensorboard(self) -> str:
        """The directory of TensorBoard events."""
        return storage.join(self.output, "tensorboard")

    @property
    def ray_run(self) -> str:
        """Ray Train's directory, with the checkpoints."""
        return storage.join(self.output, RAY_RUN_NAME)

    @property
    def non_finite(self) -> str:
        """Why a run stopped: the step of a non-finite loss or weight, and the ids of its batch."""
        return storage.join(self.output, "non_finite_loss.json")

    @property
    def unloadable(self) -> str:
        """The checkpoint that the workers could not load, and why."""
        return storage.join(self.output, "unloadable_checkpoint.json")

    @property
    def export(self) -> str:
        """The directory of the exported model."""
        return storage.join(self.output, EXPORT_DIRECTORY)

    @property
    def summary(self) -> str:
        """The summary, written last: a run that has one is finished."""
        return storage.join(self.output, "summary.json")

    @property
    def evaluations(self) -> str:
        """One JSON object per evaluated epoch (`evaluate.during`)."""
        return storage.join(self.output, "evaluations.jsonl")

    @property
    def best(self) -> str:
        """Which exported model has the best metric (`train.checkpoint.keep_best`)."""
        return storage.join(self.output, "best.json")

    def epoch_export(self, epoch: int) -> str:
        """The directory of the model exported after an epoch (`train.export_every_epochs`)."""
        return storage.join(self.output, "epochs", f"epoch-{epoch:05d}")
