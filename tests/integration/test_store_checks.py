"""`laclip status` and `laclip doctor` on a real S3 server. They need no Ray."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import s3fs

from laclip_ray import lease, storage
from laclip_ray.doctor.results import Check, run_check
from laclip_ray.doctor.stores import Output
from laclip_ray.status.outputs import find_locations, look_at
from tests.unit.status.runs import good_output


@pytest.fixture
def output(bucket: str, tmp_path: Path) -> str:
    """A finished job and a third of a sweep, in the bucket."""
    local, url = good_output(tmp_path / "out"), f"{bucket}/{tmp_path.name}/out"
    for path in local.rglob("*"):
        if path.is_file():
            storage.write_bytes(storage.join(url, path.relative_to(local).as_posix()), path.read_bytes())
    return url


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts requests to S3 by their kind."""
    counted: Counter[str] = Counter()
    send = s3fs.S3FileSystem._call_s3

    async def count(self: Any, method: str, *arguments: Any, **keywords: Any) -> Any:
        counted[method] += 1
        return await send(self, method, *arguments, **keywords)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", count)
    return counted


def test_a_status_takes_few_requests_and_writes_nothing(output: str, requests: Counter[str]) -> None:
    status = look_at(find_locations(output))
    assert status.rewriting is not None
    assert status.training is not None
    assert status.sweep is not None
    assert (status.rewriting.state, status.rewriting.units_done) == ("finished", 10)
    assert (status.training.state, status.training.step) == ("finished", 40)
    assert (status.sweep.points_done, status.sweep.points) == (1, 3)
    assert status.problems == ()
    assert requests.total() <= 20
    assert not requests.keys() & {"put_object", "delete_object", "create_multipart_upload"}


def test_the_age_of_a_lease_is_by_the_clock_of_the_server(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with lease.hold(storage.join(output, "train"), "train.output", "train"):
        monkeypatch.setattr("time.time", lambda: 0.0)  # this machine's clock does not matter
        training = look_at(find_locations(output)).training
    assert training is not None
    assert training.state == "running"
    assert training.owner is not None
    assert training.owner.is_of_store
    assert training.owner.age_s < lease.STALE_S


def test_an_output_on_the_server_passes_every_check_and_keeps_no_probe(bucket: str, tmp_path: Path) -> None:
    url = f"{bucket}/{tmp_path.name}/new"
    of = Output("output", url)
    checks = (of.check_place, of.check_writes, of.check_conditional_put, of.check_clock)
    assert [check().outcome for check in checks] == ["passed"] * 4
    fs, path = storage.filesystem(url)
    fs.invalidate_cache()
    assert fs.find(path) == []


@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_does_not_exist_is_named_and_asked_once(requests: Counter[str]) -> None:
    of = Output("output", "s3://no-such-bucket/out")
    checks = (of.check_place, of.check_writes, of.check_conditional_put, of.check_clock)
    results = [run_check(Check("check", check, "")) for check in checks]
    assert [result.outcome for result in results] == ["passed", "failed", "skipped", "skipped"]
    assert results[1].detail == "s3://no-such-bucket: the bucket does not exist"
    assert requests["put_object"] == 1
