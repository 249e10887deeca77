"""The documented commands that need Ray, a store or each other's results run as the pages have them."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from laclip_ray.onejob import run as one_job
from laclip_ray.rewriting.forecasting import preview
from laclip_ray.rewriting.running import pipeline
from laclip_ray.training.paths import RunPaths
from tests import documented_runs
from tests.documentation import PAGES, blocks
from tests.documented_shell import run
from tests.documented_world import VARIABLES, shrink, write_world
from tests.integration.scripted_engine import ScriptedEngine
from tests.real_models import real_model

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, bucket: str, local_ray: Any) -> Iterator[Path]:
    """The directory in which all chapters run, one after another."""
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    fsspec.filesystem("s3").put(str(root / "birds"), f"{bucket}/docs/birds", recursive=True)
    encoder = {"gate": {"meaning": {"model": str(real_model("all-minilm-l6-v2"))}}}
    calibrated = {"name": "calibrated", "output": "calibrated", "data": {"path": "birds"}, "rewrite": encoder}
    (root / "calibrated.yaml").write_text(yaml.safe_dump(calibrated))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in (*VARIABLES, "RAY_ADDRESS"):
            patch.setenv(name, "")  # set and removed: then it is as before in the end
            patch.delenv(name)
        for module, name in ((pipeline, "run_rewriting"), (one_job, "run_one_job"), (preview, "run_preview")):
            patch.setattr(module, name, partial(getattr(module, name), build_engine=ScriptedEngine))
        patch.setattr(preview, "kill_children_when_gone", lambda: None)  # of the tests' own process
        patch.setitem(documented_runs.STANDS_FOR, "BUCKET", f"{bucket}/docs")
        patch.setitem(documented_runs.STANDS_FOR, "HEAD:6379", local_ray.address)
        yield root


@pytest.mark.parametrize("chapter", documented_runs.CHAPTERS)
def test_the_commands_of_a_chapter_run(world: Path, bucket: str, chapter: str) -> None:
    for documented, runs_as in documented_runs.CHAPTERS[chapter].items():
        if documented.startswith("laclip report s3://"):
            for name, path in {"a": "runs/birds/train", "b": "runs/birds/clip"}.items():
                fsspec.filesystem("s3").put(path, f"{bucket}/docs/runs/{name}", recursive=True)
        run(documented_runs.command_to_run(documented, runs_as))
        if documented.startswith("laclip init"):
            shrink(Path("birds.yaml"))


# --- on the results of the chapters


@pytest.fixture
def finished(world: Path) -> Callable[[str], Path]:
    """Gives the output of a chapter's training; skips if the chapter has not run to its end."""

    def output(name: str) -> Path:
        path = Path("runs", name, "train")
        if not (path / "summary.json").exists():
            pytest.skip("the chapter has not run")
        return path

    return output


def test_python_of_the_pages_runs(finished: Callable[[str], Path]) -> None:
    finished("birds")
    for block in (block for page in PAGES for block in blocks(page) if block.language == "python"):
        names: dict[str, Any] = {}
        exec(documented_runs.command_to_run(block.text, ""), names)  # noqa: S102 - of our own pages
        assert names["tokenizer"](["two cups"]).shape == (1, 16)


def test_epochs_are_evaluated_beside_training(finished: Callable[[str], Path]) -> None:
    paths = RunPaths(str(finished("fluent-emoji")))
    metric = "retrieval/fluent-emoji/image_to_text_r1"
    lines = [json.loads(line) for line in Path(paths.evaluations).read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert json.loads(Path(paths.best).read_text())["value"] == max(line[metric] for line in lines)
