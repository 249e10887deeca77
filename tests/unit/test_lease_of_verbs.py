"""Every verb that writes to an output refuses one that another run writes to, before anything starts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.errors import UserError
from laclip_ray.evaluation.run import run_evaluation
from laclip_ray.lease import LEASE_FILE, Holder
from laclip_ray.onejob.run import run_one_job
from laclip_ray.rewriting.forecasting.probe import run_probe
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.transfer.import_texts import import_rewrites
from laclip_ray.training.run import run_training
from laclip_ray.tuning.sweep import run_sweep
from tests.cases import case
from tests.unit.conftest import picture, write_tar


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    members = [(f"{row}.{kind}", content) for row in range(4) for kind, content in _sample(row)]
    write_tar(tmp_path / "data" / "0.tar", members)
    (tmp_path / "captions.csv").write_text("".join(f"{row}.jpg,a picture of {row}\n" for row in range(4)))
    (tmp_path / "cleaned.txt").write_text("a text\n" * 4)
    return parse_experiment(
        {
            "name": "lease",
            "output": str(tmp_path / "out"),
            "data": {"path": str(tmp_path / "data")},
            "rewrite": {"model": "demo-rewriter", "prompt_sets": ["cleaned"]},
            "train": {"batch_size": 2, "epochs": 1},
            "tune": {"p": [0.0]},
            "evaluate": {"retrieval": [{"name": "own", "data": {"path": str(tmp_path / "data")}}]},
        }
    )


def _sample(row: int) -> list[tuple[str, bytes]]:
    return [("jpg", picture("JPEG")), ("txt", b"a picture of %d" % row)]


def train_captions(experiment: Experiment) -> None:
    run_training(experiment.model_copy(update={"text": experiment.text.model_copy(update={"p": 0.0})}))


def import_texts(experiment: Experiment) -> None:
    directory = Path(experiment.output).parent
    import_rewrites(experiment, str(directory / "captions.csv"), [str(directory / "cleaned.txt")])


def evaluate_untrained(experiment: Experiment) -> None:
    changes = {"checkpoint": "ViT-B-32", "pretrained": "openai"}  # neither is loaded
    run_evaluation(experiment.model_copy(update={"evaluate": experiment.evaluate.model_copy(update=changes)}))


def probe_engine(experiment: Experiment) -> None:
    run_probe(experiment, 1.0)


def verb(run: Callable[[Experiment], Any], setting: str, name: str) -> Any:
    marks = case("Identity", f"`laclip {name}` into an output that another run writes to", "refused", exit_code=2)
    return pytest.param(run, setting, id=name, marks=marks)


@pytest.mark.parametrize(
    ("run", "setting"),
    [
        verb(run_rewriting, "rewrite.output", "rewrite"),
        verb(import_texts, "rewrite.output", "rewrites import"),
        verb(probe_engine, "rewrite.output", "rewrites probe"),
        verb(train_captions, "train.output", "train"),
        verb(run_one_job, "rewrite.output", "run"),
        verb(run_one_job, "train.output", "run"),
        verb(run_sweep, "tune.output", "tune"),
        verb(evaluate_untrained, "evaluate.output", "evaluate"),
    ],
)
def test_an_output_in_use_is_refused(experiment: Experiment, run: Callable[[Experiment], Any], setting: str) -> None:
    outputs = {
        "rewrite.output": experiment.rewrite_output,
        "train.output": experiment.train_output,
        "tune.output": experiment.tune_output,
        "evaluate.output": experiment.evaluate_output,
    }
    other = replace(Holder.of_this_process("train"), machine="elsewhere", host="gpu-7", pid=41)
    url = storage.join(outputs[setting], LEASE_FILE)
    storage.write_bytes(url, other.to_bytes())
    with pytest.raises(UserError, match=rf"^{setting}: another run writes to .* process 41 on gpu-7"):
        run(experiment)
    written = [path for path in Path(experiment.output).rglob("*") if path.is_file()]
    assert written == [Path(url)]
