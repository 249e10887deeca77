"""Jobs that end in each way, by `laclip submit` and by `ray job submit`, for a test and a figure."""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from laclip_ray.models.building import create_model
from laclip_ray.models.files import save_model
from laclip_ray.models.specs import load_model_spec
from tests.integration.conftest import MODEL, good_samples, write_shard
from tests.integration.procedures import REPOSITORY, child_environment, wait_for

OUTPUT_VARIABLE = "LACLIP_JOBS_OUTPUT"
WAITS = "waiting for the cluster to grow"
"""What the job that is stopped says once it waits."""
_TOKEN = "0123456789abcdef0123456789abcdef"  # noqa: S105 - of a head on this machine


@dataclass(frozen=True)
class Place:
    """A project from which jobs are submitted, and the job server."""

    directory: Path
    address: str

    @property
    def project(self) -> Path:
        """The directory with the config; it has no `jobs/`."""
        return self.directory / "project"

    def environment(self) -> dict[str, str]:
        """Of a client."""
        return {**client_environment(), OUTPUT_VARIABLE: str(self.directory / "out")}


def client_environment() -> dict[str, str]:
    """Of a head and its clients: with a token of their own."""
    return {**child_environment(), "RAY_AUTH_TOKEN": _TOKEN}


def arguments(directory: Path) -> dict[str, list[str]]:
    """By ending, the words that a job is submitted with: the verb, the config and overrides."""
    broken = json.dumps([{"name": "broken", "data": {"path": f"{directory}/broken"}}])
    return {
        "success": ["evaluate", "mine.yaml"],
        "bad input": ["rewrite", "mine.yaml", "data.path=/nowhere/*.tar"],
        "incomplete": ["evaluate", "mine.yaml", f"evaluate.retrieval={broken}"],
        "stop": ["rewrite", "mine.yaml", "ray.autoscaling=true", "rewrite.engine.cpus_per_actor=1000"],
    }


def write_project(directory: Path) -> None:
    """A config with a settings file beside it; data, and an untrained model."""
    write_shard(directory / "data" / "0.tar", good_samples(0, 12))
    write_shard(directory / "broken" / "0.tar", [("one", {"jpg": b"no picture", "txt": b"a caption"})])
    project = directory / "project"
    (project / "sets").mkdir(parents=True)
    pairs = [{"source": f"dog {number} jpg", "target": f"A photo of dog {number}."} for number in range(9)]
    prompt_set = {"name": "mine", "description": "Dogs.", "pairs": pairs}
    (project / "sets" / "mine.yaml").write_text(yaml.safe_dump(prompt_set))
    (directory / "small.json").write_text(json.dumps(MODEL))
    spec = load_model_spec(str(directory / "small.json"))
    (directory / "model").mkdir()
    save_model(directory / "model", create_model(spec, seed=0), spec)
    content = {
        "name": "jobs",
        "output": f"${{{OUTPUT_VARIABLE}}}",
        "data": {"path": f"{directory}/data"},
        "rewrite": {
            "model": "demo-rewriter",
            "prompt_sets": ["sets/mine.yaml"],
            "gate": {"meaning": None},
            "engine": {"gpus_per_actor": 0},
        },
        "evaluate": {
            "checkpoint": f"{directory}/model",
            "retrieval": [{"name": "data", "data": {"path": f"{directory}/data"}}],
        },
        "ray": {"shared_paths": [str(directory)]},
    }
    (project / "mine.yaml").write_text(yaml.safe_dump(content))


class Submitted:
    """A client that submits a job and follows it."""

    def __init__(
        self, place: Place, words: Sequence[str], options: Sequence[str] = (), variables: Mapping[str, str] = {}
    ) -> None:
        """Start `laclip submit` in the project, with further environment variables."""
        self._log = place.directory / f"client-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", "laclip_ray", "submit", *words, "--address", place.address]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--python", sys.executable, *options],
                cwd=place.project, env={**place.environment(), **variables}, stdout=log, stderr=log,
            )  # fmt: skip

    def output(self) -> str:
        """Everything it printed."""
        return self._log.read_text()

    def end(self, timeout_s: float = 120) -> int:
        """Wait for its exit code."""
        return self.process.wait(timeout_s)

    @property
    def job(self) -> str:
        """The submission id."""
        return next(line for line in self.output().splitlines() if line.startswith("laclip-")).partition(":")[0]

    def wait_for(self, text: str) -> None:
        """Return once it has printed a text."""
        wait_for(lambda: text in self.output() or self.process.poll() is not None, 120, f"the output {text!r}")
        assert text in self.output(), self.output()[-3000:]


def ray_job(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `ray job WORDS`."""
    verb, *rest = words
    return subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "job", verb, "--address", place.address, *rest],
        cwd=REPOSITORY, env=place.environment(), capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


def last_lines(log: str, count: int) -> list[str]:
    """The last lines of a log that are not blank."""
    return [line for line in log.splitlines() if line.strip()][-count:]
