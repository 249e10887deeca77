"""Evaluation on a Ray cluster: a pool of actors gives what one process gives, also when actors are killed."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.config import Experiment, parse_experiment, with_overrides
from laclip_ray.evaluation.results import IncompleteEvaluationError
from laclip_ray.evaluation.run import evaluate_on_cluster, run_evaluation
from laclip_ray.models.building import create_model
from laclip_ray.models.files import save_model
from laclip_ray.models.specs import load_model_spec
from tests.integration.conftest import MODEL, jpeg, write_shard
from tests.integration.procedures import kill_an_encoder

pytestmark = pytest.mark.ray

SHARDS, IMAGES = 6, 40


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Experiment]:
    """Build experiments with two models and a labelled and a captioned set."""
    root = tmp_path_factory.mktemp("evaluation")
    (root / "small.json").write_text(json.dumps(MODEL))
    spec = load_model_spec(str(root / "small.json"))
    for seed, name in enumerate(("one", "two")):
        (root / name).mkdir()
        save_model(root / name, create_model(spec, seed=seed), spec)
    (root / "set" / "test").mkdir(parents=True)
    (root / "set" / "classnames.txt").write_text("fox\nowl\nhare\n")
    (root / "set" / "zeroshot_classification_templates.txt").write_text("a {c}\nthe {c}\n")
    (root / "set" / "test" / "nshards.txt").write_text(str(SHARDS))
    for shard in range(SHARDS):
        samples = [
            (f"{shard}-{n}", {"jpg": jpeg(100 * shard + n), "cls": str(n % 3).encode(), "txt": b"a thing %d" % n})
            for n in range(IMAGES)
        ]
        samples[7][1]["jpg"] = b"no picture"
        write_shard(root / "set" / "test" / f"{shard}.tar", samples)

    def experiment(output: Path, encoders: int) -> Experiment:
        data = {"path": str(root / "set" / "test")}
        return parse_experiment(
            {
                "name": "evaluation",
                "output": str(output),
                "data": data,
                "evaluate": {
                    "checkpoint": str(root / "one"),
                    "others": [{"name": "two", "checkpoint": str(root / "two")}],
                    "labelled": [
                        {"name": "animals", "path": str(root / "set"), "few_shot": {"episodes": 20, "ways": 2}}
                    ],
                    "retrieval": [{"name": "things", "data": data}],
                    "encoders": {"min": encoders, "max": encoders},
                    "max_skipped": 0.1,
                },
            }
        )

    return experiment


@pytest.fixture(scope="module")
def expected(evaluated: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of one process without Ray."""
    return run_evaluation(evaluated(tmp_path_factory.mktemp("here"), encoders=1))


def test_a_pool_gives_what_one_process_gives_also_if_an_actor_is_killed(
    local_ray: Any, evaluated: Callable[..., Experiment], expected: dict[str, Any], tmp_path: Path
) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(kill_an_encoder()), daemon=True)
    killer.start()
    results = run_evaluation(evaluated(tmp_path, encoders=2))
    killer.join()
    assert len(killed) == 1
    assert results["results"] == expected["results"]
    assert (tmp_path / "evaluate" / "two" / "results.json").exists()


def test_a_set_without_a_result_is_told_by_a_task_of_the_cluster_with_all_results(
    local_ray: Any, evaluated: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = with_overrides(evaluated(tmp_path, encoders=1), {"evaluate.max_skipped": 0.0})
    with pytest.raises(
        IncompleteEvaluationError, match=r"(?s)^no result for 3 of 3.*animals: .*max_skipped is"
    ) as incomplete:
        evaluate_on_cluster(experiment)
    assert {result["dataset"] for result in incomplete.value.results["results"]} == {"animals", "things"}
