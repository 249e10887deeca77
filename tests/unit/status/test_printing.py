"""The printed state names the facts a person looks for, in few lines."""

from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.cli import main
from laclip_ray.status.printing import duration
from tests.cases import case
from tests.unit.status.runs import (
    SHARDS,
    begin_training,
    commit,
    experiment,
    good_output,
    leave_lease,
    write_progress,
    write_summary,
)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(["status", *words])
    return capsys.readouterr().out


def test_a_whole_experiment_is_told_in_a_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = good_output(tmp_path / "out")
    assert printed(capsys, str(output)) == (
        f"rewriting in {output}/rewrites: finished\n"
        "  10 of 10 units (shard x prompt set) are committed\n"
        "  cleaned: 10 of 10 shards, 1,000 captions, 900 of 1,000 rewrites accepted (90.0%)\n"
        f"training in {output}/train: finished\n"
        "  epoch 4.00 of 4, step 40 of 40, loss 3.2500, 50 images/s\n"
        f"  model: {output}/train/export\n"
        f"sweep in {output}/tune: interrupted; the same command resumes it\n"
        "  1 of 3 points are done (1 begun), 2 of 6 runs are done\n"
    )


def test_a_running_job_tells_its_owner_and_the_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = experiment(tmp_path / "out")
    commit(of.rewrite_output, "cleaned", 4, newest_age_s=30)
    write_progress(of.rewrite_output, 400, {"cleaned/00007.tar": "cannot be read: cut"})
    paths = begin_training(tmp_path / "out", 15)
    for location in (of.rewrite_output, paths.output):
        leave_lease(location, since="2001-01-01 00:00:00 UTC")
    text = printed(capsys, of.output)
    assert text.count("  owner: laclip run, process 41 on gpu-7, since 2001-01-01 00:00:00 UTC; seems alive: last") == 2
    assert "4 of 10 units (shard x prompt set) are committed, the newest 3" in text
    assert "1 units (shard x prompt set) were given up:\n    cleaned/00007.tar: cannot be read: cut\n" in text
    assert "epoch 1.50 of 4, step 15 of 40, loss 3.2500, 50 images/s, about 50 s left" in text
    assert "newest checkpoint: checkpoint-00000015-7" in text


def test_many_failures_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = experiment(tmp_path / "out")
    commit(of.rewrite_output, "cleaned", 2)
    write_summary(of.rewrite_output, 2, {"cleaned": 10})
    assert f"{SHARDS - 2} units (shard x prompt set) were not done:" in (text := printed(capsys, of.output))
    assert "    and 3 more\n" in text


def test_what_is_not_recorded_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = experiment(tmp_path / "out")
    commit(of.rewrite_output, "cleaned", 2)
    leave_lease(of.train_output)
    text = printed(capsys, of.output)
    assert "2 of an unknown number of units (shard x prompt set) are committed" in text
    assert "cleaned: 2 shards; accepted rewrites are not recorded yet" in text
    assert "no line of metrics yet" in text
    assert "no checkpoint yet" in text


@case("How a run ends", "`laclip status` of damaged files", "they are named; the rest is shown", exit_code=0)
def test_damaged_files_are_listed_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = good_output(tmp_path / "out")
    (output / "train" / "summary.json").write_text("{")
    text = printed(capsys, str(output))
    assert "training in" in text
    assert f"could not be read:\n  {output}/train/summary.json: the summary of this training run" in text


def test_names_from_files_cannot_write_to_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of = experiment(tmp_path / "out")
    commit(of.rewrite_output, "cleaned", 1)
    write_progress(of.rewrite_output, 4, {"a\x1b[31m": "[bold]red\nnext"})
    text = printed(capsys, of.output)
    assert "    a\\x1b[31m: [bold]red\\nnext\n" in text


def test_secrets_in_a_url_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    url = "memory://me:passphrase@host/out"
    storage.write_bytes(f"{url}/rewrites/progress.json", b"{")
    text = printed(capsys, url)
    assert "passphrase" not in text + printed(capsys, url, "--json")
    assert "memory://***@host" in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3 * 3600, "3 h 0 min"), (3 * 86_400, "3.0 days")]
)
def test_durations_have_a_fitting_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text
