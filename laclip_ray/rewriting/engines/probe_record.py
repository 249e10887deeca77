"""The record of a probe: how fast the bare engine writes at its best setting. Runs compare themselves with it.

Guarantees: a run is compared only with a probe of the same recipes on the same hardware.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from laclip_ray import storage
from laclip_ray.rewriting.engines.work import EngineSpeed

RECORD_FILE = "probe.json"
"""In `rewrite.output`."""


@dataclass(frozen=True)
class ProbeRecord:
    """The result of a probe."""

    model: str
    recipes: Mapping[str, str]
    """By prompt set, the fingerprint of its recipe."""
    hardware: str
    """The devices of the engine (`engine_arguments.hardware`)."""
    settings: Mapping[str, int]
    """The best setting, by key of `rewrite.engine`."""
    tokens_per_s: float
    """Output tokens a second at the best setting."""
    trials: tuple[Mapping[str, Any], ...]
    """All settings with their results."""
    versions: Mapping[str, str]
    measured: str
    """Date and time, in ISO format."""

    def write(self, output: str) -> str:
        """Write the record to `output`; its URL."""
        url = storage.join(output, RECORD_FILE)
        storage.write_json(url, asdict(self))
        return url

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "ProbeRecord":
        """The record in a JSON object."""
        return cls(**{**content, "trials": tuple(content["trials"])})

    def is_of(self, recipes: Mapping[str, str], speed: EngineSpeed) -> bool:
        """Whether a run of these recipes by these engines is comparable."""
        return speed.hardware == {self.hardware} and recipes.items() <= self.recipes.items()


def read_probe(output: str) -> ProbeRecord | None:
    """The record in `output`. None: this output was not probed.

    Raises:
        UserError: the record is damaged.
    """
    url = storage.join(output, RECORD_FILE)
    if not storage.exists(url):
        return None
    return storage.read_state(url, "the record of a probe", "Remove it, and probe again.", ProbeRecord.parse)
