"""A cluster of two nodes on this machine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from laclip_ray.cli import main
from laclip_ray.config import Experiment, to_yaml
from laclip_ray.errors import UserError
from laclip_ray.training.run import worker_group
from laclip_ray.training.tracked import check_trackers_on_nodes
from tests.cases import case
from tests.integration.conftest import good_samples, write_shard

pytestmark = pytest.mark.ray


@pytest.mark.usefixtures("two_nodes")
@pytest.mark.parametrize("verb", ["rewrite", "train"])
def test_a_local_output_on_several_nodes_is_refused_before_anything_is_written(
    verb: str, tmp_path: Path, make_experiment: Callable[..., Experiment], capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard(tmp_path / "data" / "0.tar", good_samples(0, 20))
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(make_experiment(text={"p": 0.0})))
    with pytest.raises(SystemExit) as stopped:
        main([verb, str(config)])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert f"{verb}.output" in message
    assert "the cluster has 2 nodes that may not see it" in message
    assert not (tmp_path / "out").exists()


@case(
    "How a run ends",
    "data on a local path of a cluster with several nodes",
    "refused with path and remedy",
    exit_code=2,
)
@pytest.mark.usefixtures("two_nodes")
def test_a_local_input_on_several_nodes_is_refused_before_anything_is_written(
    tmp_path: Path, make_experiment: Callable[..., Experiment], capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard(tmp_path / "data" / "0.tar", good_samples(0, 20))
    config = tmp_path / "config.yaml"
    config.write_text(to_yaml(make_experiment(text={"p": 0.0}, ray={"shared_paths": [str(tmp_path / "out")]})))
    with pytest.raises(SystemExit) as stopped:
        main(["train", str(config)])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert f"data.path: '{tmp_path}/data' is a local path, and the cluster has 2 nodes" in message
    assert "ray.shared_paths" in message
    assert not (tmp_path / "out" / "train").exists() or not [*(tmp_path / "out" / "train").iterdir()]


@case(
    "How a run ends",
    "a node that may report and lacks a tracker",
    "refused; names the node and what it lacks",
    exit_code=2,
)
@pytest.mark.usefixtures("two_nodes")
def test_a_tracker_that_the_node_of_a_worker_lacks_is_refused(make_experiment: Callable[..., Experiment]) -> None:
    experiment = make_experiment(track={"report_to": ["wandb"]})
    with pytest.raises(UserError, match=r"on 1 of 1 nodes that may report: [\d.]+: track.report_to: wandb"):
        check_trackers_on_nodes(experiment.track, experiment.output, worker_group(experiment.train))
    alone = make_experiment(track={"report_to": ["tensorboard"]})
    check_trackers_on_nodes(alone.track, alone.output, worker_group(alone.train))
