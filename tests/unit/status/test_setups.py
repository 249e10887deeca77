"""`laclip status` as a user runs it, on a good output and on broken ones: exit codes, and what it says."""

import errno
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from laclip_ray.cli import main
from laclip_ray.config import to_config
from laclip_ray.lease import this_machine
from tests.unit.dead_endpoint import use_dead_endpoint
from tests.unit.status.runs import begin_training, commit, experiment, good_output, leave_lease, write_progress


def run(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of `laclip status`, and everything it printed."""
    code = 0
    try:
        main(["status", *words])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def damaged_lease(output: Path) -> None:
    leave_lease(output / "train").write_bytes(b'{"id": "ab')


def stale_owner(output: Path) -> None:
    leave_lease(output / "rewrites", age_s=7_200)


def dead_owner(output: Path) -> None:
    leave_lease(output / "train", machine=this_machine(), pid=2**22 + 1, process_start="7")


def damaged_metrics(output: Path) -> None:
    (output / "train" / "metrics.jsonl").write_bytes(b"\0" * 500)


def half_written_summary(output: Path) -> None:
    summary = output / "rewrites" / "summary.json"
    summary.write_bytes(summary.read_bytes()[:40])


def half_written_register(output: Path) -> None:
    begin_training(output.parent / "other", 3)
    (output / "train" / "ray" / "checkpoint_manager_snapshot.json").write_text('"{\\"checkpoint_results\\": ')


def record_of_training_missing(output: Path) -> None:
    (output / "train" / "summary.json").unlink()
    (output / "train" / "experiment.json").unlink()


def record_of_a_sweep_damaged(output: Path) -> None:
    (output / "tune" / "sweep.json").write_text("[]")


def progress_of_a_killed_run(output: Path) -> None:
    write_progress(str(output / "rewrites"), 400)


def verdicts_missing(output: Path) -> None:
    (verdicts,) = (output / "rewrites" / "cleaned" / "verdicts").iterdir()
    verdicts.rename(output / "elsewhere")


def file_in_place_of_a_directory(output: Path) -> None:
    (output / "train").rename(output / "moved")
    (output / "train").write_text("a file")


def nothing(output: Path) -> None:
    """Leave the output as it is."""


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (nothing, ["rewriting in {out}/rewrites: finished", "training in {out}/train: finished"]),
        (damaged_lease, ["training in {out}/train: running", "not known, as the lease is damaged; seems alive"]),
        (stale_owner, ["rewriting in {out}/rewrites: interrupted", "seems dead: last sign of life 7200 s ago"]),
        (dead_owner, ["training in {out}/train: interrupted", "its process has ended without a word"]),
        (damaged_metrics, ["training in {out}/train: finished", "metrics.jsonl: 1 of its last 1 lines are damaged"]),
        (half_written_summary, ["10 of an unknown number", "{out}/rewrites/summary.json: the summary of rewriting"]),
        (half_written_register, ["training in {out}/train: finished", "Ray Train's register of checkpoints cannot"]),
        (record_of_training_missing, ["training in {out}/train: interrupted", "experiment.json: the record of this"]),
        (record_of_a_sweep_damaged, ["1 of 3 points are done", "{out}/tune/sweep.json: the record of this sweep"]),
        (progress_of_a_killed_run, ["rewriting in {out}/rewrites: interrupted; the same command resumes it"]),
        (verdicts_missing, ["0 of 10 units (shard x prompt set) are committed"]),
        (file_in_place_of_a_directory, ["rewriting in {out}/rewrites: finished", "{out}/train: never started"]),
    ],
)
def test_an_output_that_can_be_looked_at_gives_0(
    tmp_path: Path, damage: Callable[[Path], None], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    output = good_output(tmp_path / "out")
    damage(output)
    code, text = run([str(output)], capsys)
    for sentence in expected:
        assert sentence.format(out=output) in text
    assert "Traceback" not in text
    assert code == 0
    code, text = run([str(output), "--json"], capsys)
    assert json.loads(text)["summary"]["output"] == str(output)
    assert code == 0


def test_a_missing_output_gives_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run([str(tmp_path / "none")], capsys)
    assert code == 2
    assert f"\nerror: {tmp_path}/none: there is no such output." in text


def test_a_directory_of_other_files_gives_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    code, text = run([str(tmp_path)], capsys)
    assert code == 2
    assert "holds files, but no output of laclip" in text


def test_a_url_of_an_unknown_kind_gives_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(["s4://bucket/out"], capsys)
    assert (code, "\nerror: s4://bucket/out: " in text) == (2, True)


def test_an_output_that_may_not_be_read_gives_4(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object, path: str, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    output = good_output(tmp_path / "out")
    monkeypatch.setattr(LocalFileSystem, "ls", refuse)
    code, text = run([str(output)], capsys)
    assert code == 4
    assert f"error: OUTPUT: {output}: permission is denied. Give this user access" in text


def test_a_dead_endpoint_gives_4_within_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_dead_endpoint(monkeypatch)
    begun_s = time.monotonic()
    code, text = run(["s3://bucket/out"], capsys)
    assert code == 4
    assert "127.0.0.1:9 cannot be reached. Check AWS_ENDPOINT_URL and the network" in text
    assert time.monotonic() - begun_s < 60


def test_a_config_whose_output_does_not_exist_was_never_started(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(to_config(experiment(tmp_path / "out")))
    code, text = run([str(config)], capsys)
    assert code == 0
    assert text.count("never started") == 2


def test_a_config_may_have_outputs_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(to_config(experiment(tmp_path / "out")))
    commit(str(tmp_path / "own"), "cleaned", 3)
    code, text = run([str(config), f"rewrite.output={tmp_path}/own"], capsys)
    assert code == 0
    assert f"rewriting in {tmp_path}/own: interrupted" in text


def test_overrides_of_an_output_give_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run([str(good_output(tmp_path / "out")), "train.epochs=3"], capsys)
    assert code == 2
    assert "train.epochs=3: overrides change a config" in text


def test_the_verb_loads_neither_ray_nor_torch_nor_vllm(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom laclip_ray.cli import main\nmain(['status', sys.argv[1]])\n"
        "print('loaded:', *{'ray', 'torch', 'vllm'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", program, str(good_output(tmp_path / "out"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"
