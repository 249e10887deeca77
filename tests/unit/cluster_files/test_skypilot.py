"""The task for SkyPilot: a spot node, and a command that continues after it is gone."""

import itertools
import re
import shlex
import shutil
import subprocess

import pytest

from laclip_ray.cli.app import app
from laclip_ray.config import load_experiment
from tests.unit.cluster_files.checks import REPOSITORY, SKYPILOT, load

TASK = load(SKYPILOT)


def container() -> tuple[list[str], list[str]]:
    """The options of `docker run`, and the command in the container."""
    (script,) = re.findall(r"^docker run (.*)", TASK["run"].replace("\\\n", ""), re.MULTILINE)
    words = shlex.split(script)
    image = words.index("$IMAGE")
    return words[:image], words[image + 1 :]


def test_a_preempted_node_is_replaced_and_a_failed_run_repeated() -> None:
    assert TASK["resources"]["use_spot"]
    recovery = TASK["resources"]["job_recovery"]
    assert recovery == {"strategy": "EAGER_NEXT_REGION", "max_restarts_on_errors": 3}


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("script", ["setup", "run"])
def test_bash_reads_the_scripts(script: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=TASK[script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_exit_code_is_the_run_s() -> None:
    assert TASK["run"].replace("\\\n", "").strip().splitlines()[-1].startswith("docker run --rm ")


def test_the_container_gets_the_variables_of_the_task_and_no_values_of_secrets() -> None:
    options, _ = container()
    passed = [value for option, value in itertools.pairwise(options) if option == "--env"]
    assert {*passed} == {*TASK["envs"], *TASK["secrets"]} - {"IMAGE"}
    assert set(TASK["secrets"].values()) == {None}


def test_the_command_resumes_from_its_output_and_fits_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TASK["envs"].items():
        monkeypatch.setenv(name, value)
    _, (program, verb, config, *overrides) = container()
    assert program == "laclip"
    assert verb in {command.name for command in app.registered_commands}
    experiment = load_experiment(str(REPOSITORY / config), overrides)
    assert experiment.output.startswith("s3://")  # it outlives the node
    assert experiment.rewrite.delivery == "ahead"  # engines and workers take the same GPUs
    engines, train = experiment.rewrite.engine, experiment.train
    for choice in TASK["resources"]["accelerators"]:
        gpus = int(choice.rpartition(":")[2])
        assert engines.actors.max * (engines.gpus_per_actor or 0) == gpus
        assert train.worker_range.max * (train.gpus_per_worker or 0) == gpus
