"""The user chooses the language model: every verb that rewrites refuses without one, and training needs none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import Experiment, parse_experiment
from laclip_ray.errors import UserError
from laclip_ray.onejob.plan import plan_run
from laclip_ray.onejob.run import run_one_job
from laclip_ray.rewriting.forecasting.estimate import estimate_rewriting
from laclip_ray.rewriting.running.pipeline import run_rewriting
from laclip_ray.rewriting.storing.sets import SetSelection
from tests.cases import case
from tests.unit.conftest import picture, write_tar


def retry(experiment: Experiment) -> None:
    """What `laclip rewrites retry --reason too_short` runs."""
    run_rewriting(experiment, retry=["too_short"])


VERBS: dict[str, Callable[[Experiment], Any]] = {
    "rewrite": run_rewriting,
    "rewrites retry": retry,
    "estimate": estimate_rewriting,
    "plan": plan_run,
    "run": run_one_job,
}


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """Own data, and a config that names no model."""
    write_tar(tmp_path / "data" / "0.tar", [("a.jpg", picture("JPEG")), ("a.txt", b"a cup")])
    content = {"name": "own", "output": str(tmp_path / "out"), "data": {"path": str(tmp_path / "data")}}
    return parse_experiment({**content, "train": {"batch_size": 1}})


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(
            verb,
            marks=case(
                "Configs and secrets",
                f"`laclip {verb}` with a config that does not set `rewrite.model`",
                "refused before anything starts; the message names three models by GPU size",
                exit_code=2,
            ),
        )
        for verb in VERBS
    ],
)
def test_verbs_that_rewrite_refuse_without_a_model_and_name_three(
    verb: str, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "init", lambda *_, **__: pytest.fail("Ray was started"))
    with pytest.raises(UserError, match=r"^rewrite\.model: not set") as refused:
        VERBS[verb](experiment)
    message = str(refused.value)
    assert "\n" not in message
    for name in ("Qwen/Qwen3-4B-Base (16 GB)", "Qwen/Qwen3-8B-Base (24 GB", "Qwen/Qwen3-14B-Base (80 GB)"):
        assert name in message
    assert "demo-rewriter, in this package, knows only the world of `laclip demo`" in message
    assert not Path(experiment.output).exists()


def test_training_names_its_rewrite_sets_without_a_model(experiment: Experiment) -> None:
    assert SetSelection.of(experiment).names == ["assistant_concise", "assistant_vivid", "crowd", "cleaned"]
