"""The parts of an output: rewriting, training, a sweep, an evaluation, or several of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.config import Experiment, TuneConfig
from laclip_ray.errors import UserError
from laclip_ray.evaluation.results import RESULTS_FILE
from laclip_ray.lease import LEASE_FILE, Holder
from laclip_ray.rewriting.storing.progress_file import PROGRESS_FILE
from laclip_ray.status.damage import Damage
from laclip_ray.status.evaluation import EvaluationStatus, evaluation_status
from laclip_ray.status.listing import Directory, list_directory
from laclip_ray.status.owner import Owner
from laclip_ray.status.rewriting import RewritingStatus, rewriting_status
from laclip_ray.status.sweep import SweepStatus, sweep_status
from laclip_ray.status.training import TrainingStatus, training_status
from laclip_ray.training.paths import RECORD_FILE as TRAINING_RECORD
from laclip_ray.tuning.paths import RECORD_FILE as SWEEP_RECORD

_PARTS = {"rewriting": "rewrites", "training": "train", "sweep": "tune", "evaluation": "evaluate"}
"""The directory of each part below an experiment's output."""
_OTHERS = frozenset({"features", "run.json", "preview.html"})
"""Other names that tell an experiment's output."""
_PART_OF_VERB = {
    "train": "training",
    "tune": "sweep",
    "evaluate": "evaluation",
    "rewrite": "rewriting",
    "rewrites import": "rewriting",
}


@dataclass(frozen=True)
class Locations:
    """Where the parts of an experiment lie."""

    output: str
    """As the user names it."""
    parts: Mapping[str, str]
    """By part, its directory or URL."""
    tune: TuneConfig | None = None
    """The configuration of the sweep, if it is known."""
    evaluated_sets: int | None = None
    """How many sets are configured for an evaluation, if it is known."""

    @classmethod
    def of(cls, experiment: Experiment) -> "Locations":
        """The locations that a configuration names."""
        parts = {
            "rewriting": experiment.rewrite_output,
            "training": experiment.train_output,
            "sweep": experiment.tune_output,
            "evaluation": experiment.evaluate_output,
        }
        of = experiment.evaluate
        sets = len(of.labelled) + len(of.retrieval) + len(of.sugar_crepe)
        return cls(experiment.output, parts, experiment.tune, sets or None)


@dataclass(frozen=True)
class OutputStatus:
    """The state of all runs of an output."""

    output: str
    rewriting: RewritingStatus | None
    training: TrainingStatus | None
    sweep: SweepStatus | None
    """None: there is no sweep."""
    evaluation: EvaluationStatus | None
    """None: there is no evaluation."""
    problems: tuple[str, ...]
    """A sentence for each file that could not be read."""

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        content = asdict(self)
        for name in _PARTS:
            part = getattr(self, name)
            if part is not None and part.owner is not None:
                content[name]["owner"] = _owner_json(part.owner)
        if self.rewriting is not None:
            for each, described in zip(self.rewriting.sets, content["rewriting"]["sets"], strict=True):
                described["accepted_share"] = each.accepted_share
            content["rewriting"] |= {"units_done": self.rewriting.units_done, "units": self.rewriting.units}
        return content


def _owner_json(owner: Owner) -> dict[str, Any]:
    return {
        "name": owner.name,
        "age_s": round(owner.age_s, 3),
        "seems_alive": owner.is_alive,
        "process_has_ended": owner.is_dead,
    }


def find_locations(output: str) -> Locations:
    """Find the parts of an output: of a whole experiment, or of one of its parts.

    Raises:
        UserError: there is no such directory, or it holds only other files.
    """
    directory = list_directory(output)
    if directory is None:
        raise UserError(
            f"{output}: there is no such output. Give the directory or URL that `output` names in the config, or the "
            "config itself"
        )
    names = {*directory.files, *directory.directories}
    if directory.is_empty or names & {*_PARTS.values(), *_OTHERS}:
        return Locations(output, {part: storage.join(output, name) for part, name in _PARTS.items()})
    part = _part_of(output, directory)
    if part is None:
        raise UserError(
            f"{output}: holds files, but no output of laclip. Give the directory or URL that `output` names in the "
            "config, or the config itself"
        )
    return Locations(output, {part: output})


def _part_of(output: str, directory: Directory) -> str | None:
    """The part of an experiment whose own output a directory is; None: of no part."""
    marks: Mapping[str, str] = {
        SWEEP_RECORD: "sweep",
        TRAINING_RECORD: "training",
        PROGRESS_FILE: "rewriting",
        RESULTS_FILE: "evaluation",
    }
    for name, part in marks.items():
        if name in directory.files:
            return part
    for name in directory.directories:
        if storage.exists(storage.join(output, name, "recipe.json")):
            return "rewriting"
    if LEASE_FILE not in directory.files:
        return None
    holder = Holder.from_bytes(Damage().read_bytes(storage.join(output, LEASE_FILE), "the lease") or b"")
    return _PART_OF_VERB.get(str(holder.verb) if holder is not None else "", "training")


def look_at(locations: Locations) -> OutputStatus:
    """Look at every part of an output."""
    damage, parts = Damage(), locations.parts
    rewriting = rewriting_status(parts["rewriting"], damage) if "rewriting" in parts else None
    training = training_status(parts["training"], damage) if "training" in parts else None
    sweep = sweep_status(parts["sweep"], damage, locations.tune) if "sweep" in parts else None
    if sweep is not None and sweep.state == "never started" and len(parts) > 1:
        sweep = None
    evaluation = None
    if "evaluation" in parts:
        evaluation = evaluation_status(parts["evaluation"], damage, locations.evaluated_sets)
        if evaluation.state == "never started" and len(parts) > 1:
            evaluation = None
    return OutputStatus(locations.output, rewriting, training, sweep, evaluation, tuple(damage.found))
