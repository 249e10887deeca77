"""`laclip doctor` as a user runs it, on a good set-up and on broken ones: exit codes, and the checks that fail.

No Ray starts: the cluster is left out, or its address has no server.
"""

import json
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from laclip_ray.cli import main
from laclip_ray.config import load_experiment
from laclip_ray.doctor import engines, examination, machines, ray_cluster
from laclip_ray.doctor.examination import examine
from laclip_ray.doctor.locks import Lock
from laclip_ray.doctor.results import Result
from laclip_ray.rewriting.engines import arguments
from laclip_ray.tracking import choice
from tests.cases import case
from tests.integration.conftest import MODEL
from tests.unit.conftest import write_tar
from tests.unit.dead_endpoint import use_dead_endpoint
from tests.unit.doctor import stores

GIB = 2**30
WRITING = "output: write, read, list, delete"

Change = Callable[[pytest.MonkeyPatch, Path], list[str]]
"""Breaks one thing; returns overrides of the config."""


@pytest.fixture(autouse=True)
def _lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of this environment: the tests may run in any."""
    monkeypatch.setattr(examination, "read_lock", lambda has_gpu_build: lock_of_here())


def lock_of_here(**versions: str) -> Lock:
    packages = machines.installed_packages()
    pinned = {name: packages[name] for name in ("ray", "torch", "pydantic")}
    return Lock("the lock", {**pinned, **versions}, frozenset(pinned), ">=3.11,<3.13")


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A good set-up."""
    write_tar(tmp_path / "data" / "0.tar", [("a.txt", b"a cup")])
    (tmp_path / "model.json").write_text(json.dumps(MODEL))
    path = tmp_path / "config.yaml"
    path.write_text(
        f"name: doctor\noutput: {tmp_path}/out\ndata: {{path: {tmp_path}/data}}\n"
        f"model: {{name: {tmp_path}/model.json}}\nrewrite: {{model: demo-rewriter}}\n"
    )
    return str(path)


def url_in(kind: Any) -> str:
    return f"{kind.protocol}://{uuid.uuid4().hex}/out"


def no_change(_: pytest.MonkeyPatch, __: Path) -> list[str]:
    return []


def wrong_version(patch: pytest.MonkeyPatch, _: Path) -> list[str]:
    patch.setattr(examination, "read_lock", lambda has_gpu_build: lock_of_here(ray="9.9.9"))
    return []


def wrong_python(patch: pytest.MonkeyPatch, _: Path) -> list[str]:
    patch.setattr("platform.python_version", lambda: "3.14.0")
    return []


def missing_data(_: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    return [f"data.path={tmp_path}/none/*.tar"]


def empty_data(_: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    (tmp_path / "data" / "0.tar").write_bytes(b"")
    return []


def read_only_output(_: pytest.MonkeyPatch, __: Path) -> list[str]:
    return [f"output={url_in(stores.ReadOnlyStore)}"]


def unknown_store(_: pytest.MonkeyPatch, __: Path) -> list[str]:
    return ["output=s4://bucket/out"]


def file_as_output(_: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    (tmp_path / "out").write_text("a file")
    return []


def dead_endpoint(patch: pytest.MonkeyPatch, _: Path) -> list[str]:
    use_dead_endpoint(patch)
    return ["output=s3://no-such-bucket/out"]


def skewed_clock(_: pytest.MonkeyPatch, __: Path) -> list[str]:
    return [f"output={url_in(stores.SkewedStore)}"]


def store_without_conditions(_: pytest.MonkeyPatch, __: Path) -> list[str]:
    return [f"output={url_in(stores.ForgetfulStore)}"]


def missing_model(_: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    return [f"rewrite.model={tmp_path}/none", "rewrite.gate.meaning=null"]


def missing_encoder(_: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    return [f"rewrite.gate.meaning.model={tmp_path}/none"]


def unknown_clip(_: pytest.MonkeyPatch, __: Path) -> list[str]:
    return ["model.name=ViT-B-161"]


def no_vllm(patch: pytest.MonkeyPatch, _: Path) -> list[str]:
    patch.setattr(engines, "find_spec", lambda _: None)
    return []


def bad_engine_argument(patch: pytest.MonkeyPatch, _: Path) -> list[str]:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("max_model_len: no such value")

    patch.setattr(arguments, "engine_arguments", refuse)  # vLLM's import takes a minute
    return ["rewrite.engine.args={max_model_len: 3}"]


def low_disk(patch: pytest.MonkeyPatch, _: Path) -> list[str]:
    full = SimpleNamespace(total=100 * GIB, free=5 * GIB)
    roomy = SimpleNamespace(total=500 * GIB, free=500 * GIB)
    patch.setattr(shutil, "disk_usage", lambda path: roomy if "shm" in str(path) else full)
    return []


def small_shared_memory(patch: pytest.MonkeyPatch, _: Path) -> list[str]:
    small = SimpleNamespace(total=GIB // 16, free=GIB // 16)
    roomy = SimpleNamespace(total=500 * GIB, free=500 * GIB)
    patch.setattr(shutil, "disk_usage", lambda path: small if "shm" in str(path) else roomy)
    return []


def missing_temporary_directory(patch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    patch.setenv("RAY_TMPDIR", f"{tmp_path}/{'x' * 120}")
    return []


def missing_tracker(patch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    patch.setattr(choice, "find_spec", lambda name: None)
    return ["track.report_to=trackio"]


def run(config: str, overrides: Sequence[str], with_cluster: bool = False) -> dict[str, Result]:
    """The results by name."""
    results = examine(load_experiment(config, overrides), with_cluster)
    named = {result.name: result for result in results}
    assert len(named) == len(results)
    return named


@pytest.mark.parametrize(
    ("change", "failed", "text"),
    [
        (no_change, set(), ""),
        (wrong_version, {"packages"}, "instead of 9.9.9 (compared with the lock)"),
        (wrong_python, {"Python"}, "3.14.0 is not supported"),
        (missing_data, {"data"}, "none/*.tar"),
        (empty_data, {"data"}, "0.tar is empty"),
        (read_only_output, {WRITING}, "permission is denied"),
        (unknown_store, {WRITING}, "s4"),
        (file_as_output, {"output: place"}, "is a file; expected a directory"),
        (dead_endpoint, {WRITING}, "127.0.0.1:9 cannot be reached"),
        (skewed_clock, {"output: clock"}, "s ahead of this machine's"),
        (store_without_conditions, {"output: conditional put"}, "If-None-Match"),
        (missing_model, {"language model", "engine arguments"}, "is not a directory with a model"),
        (missing_encoder, {"sentence encoder"}, "there is no directory"),
        (unknown_clip, {"CLIP model"}, "ViT-B-161"),
        (no_vllm, {"engine arguments"}, "vLLM is not installed"),
        (bad_engine_argument, {"engine arguments"}, "max_model_len: no such value"),
        (low_disk, {"free disk"}, "cannot spill there"),
        (small_shared_memory, {"shared memory"}, "so Ray keeps its objects on disk"),
        (missing_tracker, {"trackers"}, "pip install 'laclip-ray[trackio]'"),
        (missing_temporary_directory, {"Ray's directory"}, "Set RAY_TMPDIR to a shorter directory"),
    ],
)
def test_each_fault_fails_its_own_checks_and_no_other(
    config: str, change: Change, failed: set[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = run(config, []).keys()
    begun_s = time.monotonic()
    results = run(config, change(monkeypatch, tmp_path))
    assert {result.name for result in results.values() if result.outcome == "failed"} == failed
    assert any(text in f"{results[name].detail} {results[name].remedy}" for name in failed or results)
    assert all(bool(result.remedy) == (result.outcome == "failed") for result in results.values())
    assert results.keys() == everything
    assert time.monotonic() - begun_s < 60
    assert not (tmp_path / "out").is_dir()


def exit_code(words: Sequence[str]) -> int:
    try:
        main(["doctor", *words])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_a_good_set_up_gives_0(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([config, "--no-cluster"]) == 0
    printed = capsys.readouterr()
    assert "failed" not in printed.out
    assert printed.err == f"laclip doctor: {config}: checking what a run needs\n"


@case("How a run ends", "`laclip doctor` with a check that fails", "a table with what to do", exit_code=4)
def test_a_failed_check_gives_4_and_its_name(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([config, f"data.path={tmp_path}/none", "--no-cluster"]) == 4
    printed = capsys.readouterr()
    assert "checks failed (data). The table says what to do" in printed.err
    assert "Correct data.path" in " ".join(printed.out.split())


def test_a_bad_config_gives_2_and_checks_nothing(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(examination, "examine", lambda *_: pytest.fail("checked"))
    assert exit_code([config, "train.epoch=3"]) == 2
    assert exit_code(["none.yaml"]) == 2
    assert "none.yaml: there is no such config file" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["127.0.0.1:9", "127.0.0.1", "http://127.0.0.1:9"])
def test_an_unreachable_cluster_fails_and_the_other_checks_go_on(
    config: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray_cluster, "ADDRESS_TIMEOUT_S", 0.1)
    results = run(config, [], with_cluster=True)
    assert {name for name, result in results.items() if result.outcome == "failed"} == {"Ray"}
    assert "RAY_ADDRESS" in results["Ray"].detail
    assert results["room"].outcome == results["nodes"].outcome == "skipped"
    assert results["output: clock"].outcome == "passed"
    assert "free disk" not in results  # nothing starts on this machine


def test_checks_of_a_cluster_can_be_left_out(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    results = run(config, [])
    assert "Ray" not in results
    assert all(result.outcome != "failed" for result in results.values())
