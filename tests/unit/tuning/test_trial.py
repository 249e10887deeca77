"""A run whose cost is not known has no results."""

from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.config import parse_experiment
from laclip_ray.data.shards import list_shards
from laclip_ray.errors import UserError
from laclip_ray.models.files import CONFIG_FILE
from laclip_ray.models.specs import load_model_spec
from laclip_ray.training.paths import RunPaths
from laclip_ray.training.rows import count_shard
from laclip_ray.training.run_record import write_record
from laclip_ray.tuning.space import listed_points
from laclip_ray.tuning.trial import run_experiment, run_stages
from tests.unit.conftest import picture, write_tar


def test_a_finished_run_without_a_metrics_line_is_refused_with_the_remedy(tmp_path: Path) -> None:
    write_tar(tmp_path / "data" / "0.tar", [("a.jpg", picture("JPEG")), ("a.txt", b"a cup")])
    experiment = parse_experiment(
        {
            "name": "sweep",
            "output": str(tmp_path / "out"),
            "data": {"path": str(tmp_path / "data")},
            "train": {"batch_size": 2, "epochs": 2},
            "tune": {"p": [0.0]},
        }
    )
    (point,) = listed_points(experiment.tune, experiment.seed)
    variant = run_experiment(experiment, point, 0)
    paths = RunPaths(variant.train_output)
    rows = {shard.name: count_shard(variant.data, shard) for shard in list_shards(variant.data)}
    write_record(paths, variant.as_written(), load_model_spec(variant.model.name), rows, None)
    storage.write_json(paths.summary, {"steps": 1})
    storage.write_json(storage.join(paths.export, CONFIG_FILE), {})
    storage.write_bytes(paths.metrics, b'{"step": 1, "epo')
    message = rf"^{paths.metrics} has no whole line, so .* is not known\. Remove {variant.train_output}, and the same"
    with pytest.raises(UserError, match=message):
        run_stages(experiment, point, 0, [2])
