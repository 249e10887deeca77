"""Data are listed and read; outputs are probed, and look afterwards as before."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import storage
from laclip_ray.config import DataConfig
from laclip_ray.doctor.results import Check, Result, run_check
from laclip_ray.doctor.stores import (
    Output,
    check_clock,
    check_conditional_put,
    check_data,
    check_writes,
    separate_outputs,
)
from laclip_ray.errors import UserError
from tests.unit.conftest import write_tar
from tests.unit.doctor import stores

PROBES = (check_writes, check_conditional_put, check_clock)


def probed(probe: Any, url: str) -> Result:
    return run_check(Check("probe", lambda: probe(url), "give access"))


def url_in(protocol: str) -> str:
    return f"{protocol}://{uuid.uuid4().hex}/out"


@pytest.mark.parametrize("probe", PROBES)
def test_a_good_directory_passes_and_stays_as_it_is(probe: Any, tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    assert probed(probe, str(tmp_path)).outcome == "passed"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("probe", PROBES)
def test_directories_made_for_a_probe_are_removed(probe: Any, tmp_path: Path) -> None:
    assert probed(probe, str(tmp_path / "a" / "b")).outcome == "passed"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("probe", PROBES)
def test_a_good_store_passes_and_keeps_no_probe(probe: Any) -> None:
    url = url_in("memory")
    assert probed(probe, url).outcome == "passed"
    fs, path = storage.filesystem(url)
    assert fs.find(path) == []


@pytest.mark.parametrize("probe", PROBES)
def test_a_store_that_may_only_be_read_fails(probe: Any) -> None:
    result = probed(probe, url_in(stores.ReadOnlyStore.protocol))
    assert result.outcome == "failed"
    assert "permission is denied" in result.detail
    assert result.remedy == "Give this user access, or choose another directory"


@pytest.mark.parametrize("probe", PROBES)
def test_a_path_where_no_directory_can_be_made_fails(probe: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = probed(probe, str(tmp_path / "file" / "out"))
    assert result.outcome == "failed"
    assert "a part of the path is a file" in result.detail


def test_a_store_that_ignores_conditions_fails_that_check_alone() -> None:
    url = url_in(stores.ForgetfulStore.protocol)
    found = check_conditional_put(url)
    assert found.outcome == "failed"
    assert "ignores or refuses the condition of a put (If-None-Match)" in found.detail
    assert check_writes(url).outcome == "passed"


def test_a_store_with_late_listings_fails() -> None:
    found = check_writes(url_in(stores.LateStore.protocol))
    assert found.outcome == "failed"
    assert "its listing lacks a file that was just written" in found.detail


def test_a_store_that_deletes_nothing_fails() -> None:
    found = check_writes(url_in(stores.UndeletableStore.protocol))
    assert found.outcome == "failed"
    assert "was deleted, and is still there" in found.detail


@pytest.mark.parametrize(("ahead_s", "text"), [(600, "600 s ahead of"), (-600, "600 s behind")])
def test_a_clock_that_is_wrong_fails(ahead_s: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores.SkewedStore, "ahead_s", ahead_s)
    found = check_clock(url_in(stores.SkewedStore.protocol))
    assert found.outcome == "failed"
    assert text in found.detail.replace("599 s", "600 s")
    assert "Set both clocks" in found.remedy


@pytest.mark.parametrize("ahead_s", [50, -50, 0])
def test_small_differences_of_clocks_pass(ahead_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores.SkewedStore, "ahead_s", ahead_s)
    assert check_clock(url_in(stores.SkewedStore.protocol)).outcome == "passed"


def test_a_probe_is_no_file_to_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "remove", lambda _: None)  # as if this process had been killed
    check_conditional_put(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1
    assert storage.list_files(str(tmp_path)) == []


def test_an_output_that_would_be_lost_is_refused(tmp_path: Path) -> None:
    assert Output("output", str(tmp_path), in_ray_job=True).check_place().outcome == "passed"
    with pytest.raises(UserError, match=r"output: 'out' is a relative path; in a Ray job it would be lost"):
        Output("output", "out", in_ray_job=True).check_place()


def test_a_good_output_passes_every_check(tmp_path: Path) -> None:
    for url in (str(tmp_path / "out"), url_in("memory")):
        output = Output("output", url)
        checks = (output.check_place, output.check_writes, output.check_conditional_put, output.check_clock)
        assert [check().outcome for check in checks] == ["passed"] * 4


def test_a_store_that_fails_is_asked_once() -> None:
    output = Output("output", url_in(stores.LateStore.protocol))
    checks = (output.check_place, output.check_writes, output.check_conditional_put, output.check_clock)
    assert [check().outcome for check in checks] == ["passed", "failed", "skipped", "skipped"]


def test_a_store_that_raises_is_asked_once() -> None:
    output = Output("output", url_in(stores.ReadOnlyStore.protocol))
    checks = (output.check_place, output.check_writes, output.check_conditional_put, output.check_clock)
    outcomes = [run_check(Check("check", check, "give access")).outcome for check in checks]
    assert outcomes == ["passed", "failed", "skipped", "skipped"]


def test_a_store_without_conditions_still_has_its_clock_checked() -> None:
    output = Output("output", url_in(stores.ForgetfulStore.protocol))
    checks = (output.check_place, output.check_writes, output.check_conditional_put, output.check_clock)
    assert [check().outcome for check in checks] == ["passed", "passed", "failed", "passed"]


def test_outputs_below_another_one_are_not_probed_again() -> None:
    outputs = {"output": "s3://a/out", "train.output": "s3://a/out/train", "tune.output": "s3://a/output"}
    assert separate_outputs(outputs) == {"output": "s3://a/out", "tune.output": "s3://a/output"}


def test_data_are_listed_and_read(tmp_path: Path) -> None:
    for name in ("0.tar", "1.tar"):
        write_tar(tmp_path / name, [("a.txt", b"a cup")])
    found = check_data(DataConfig(path=f"{tmp_path}/*.tar"))
    assert (found.outcome, found.detail) == ("passed", f"2 files listed, {tmp_path}/0.tar can be read")


def test_data_that_are_missing_or_empty_fail(tmp_path: Path) -> None:
    result = run_check(Check("data", lambda: check_data(DataConfig(path=f"{tmp_path}/*.tar")), "Correct data.path"))
    assert (result.outcome, result.remedy) == ("failed", "Correct data.path")
    (tmp_path / "0.tar").touch()
    found = check_data(DataConfig(path=str(tmp_path)))
    assert (found.outcome, found.detail) == ("failed", f"{tmp_path}/0.tar is empty")
