import os
import subprocess
import sys
from pathlib import Path

import pytest

from laclip_ray import progress
from laclip_ray.live.capture import Capture
from laclip_ray.progress.messages import Message, TrainingStep

PROGRAM = """
import os, sys
from laclip_ray import terminal
from laclip_ray.live.capture import Capture

capture = Capture("rewrite", lambda message: print("message", message.step, file=terminal.out()), {shows_all})
with capture.open():
    print("\\x1b[36m(Worker pid=7)\\x1b[0m from Ray")
    print('(Worker pid=7) {mark} {{"kind": "TrainingStep", "output": "o", "step": 4}}')
    os.write(2, b"from C++\\n")
    print("ours", file=terminal.out())
    print("our error", file=terminal.err())
    capture.settle({output!r})
    os.write(1, b"late from C++\\n")
    print("late from Ray", file=sys.stderr)
print("after")
capture.close(keeps=False)
"""


def run(output: Path, shows_all: bool = False) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(output=str(output), mark=progress.MARK, shows_all=shows_all)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)


def test_only_our_lines_reach_the_terminal(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.stdout.splitlines() == ["message 4", "ours", "after"]
    assert done.stderr.splitlines() == ["our error"]


def test_all_other_lines_are_in_the_log_of_the_output_without_control_codes(tmp_path: Path) -> None:
    run(tmp_path)
    (log,) = (tmp_path / "logs").iterdir()
    lines = log.read_text().splitlines()
    assert lines == ["(Worker pid=7) from Ray", "from C++", "late from C++", "late from Ray"]


def test_debug_shows_the_lines_of_libraries_too(tmp_path: Path) -> None:
    done = run(tmp_path, shows_all=True)
    assert "(Worker pid=7) from Ray" in done.stderr
    assert "from C++" in done.stderr
    assert progress.MARK not in done.stderr


def ignore(_: Message) -> None:
    pass


def test_a_log_of_work_that_never_began_is_removed() -> None:
    capture = Capture("plan", ignore)
    with capture.open():
        print("a line")
    capture.close(keeps=False)
    assert not capture.path.exists()


def test_a_failed_verb_keeps_its_log() -> None:
    capture = Capture("plan", ignore)
    with capture.open():
        print("a line")
    capture.close(keeps=True)
    assert capture.path.read_text() == "a line\n"
    capture.path.unlink()


def test_the_newest_lines_are_of_the_process_that_the_error_names() -> None:
    capture = Capture("train", ignore)
    with capture.open():
        for number in range(30):
            print(f"(Worker pid=7, ip=10.0.0.1) line {number}")
            print(f"(Other pid=8) Error {number}")
    found = capture.newest_lines(["the actor died: Worker pid=7"])
    assert found == {"Worker pid=7": [f"line {number}" for number in range(10, 30)]}
    assert list(capture.newest_lines(["something else"])) == ["Other pid=8"]
    capture.close(keeps=False)


def test_without_a_process_the_newest_lines_are_of_the_log() -> None:
    capture = Capture("preview", ignore)
    with capture.open():
        os.write(capture._file.fileno(), b"the engine said this\n")
    assert capture.newest_lines(["no process"]) == {"the log": ["the engine said this"]}
    capture.close(keeps=False)


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").write_text("a file in the way")
    capture = Capture("train", ignore)
    with capture.open():
        capture.settle(str(tmp_path))
        print("a line")
    capture.close(keeps=False)
    assert "cannot be written" in caplog.text


def test_a_log_at_a_url_is_put_there_whole() -> None:
    import fsspec

    capture = Capture("train", ignore)
    with capture.open():
        capture.settle("memory://runs/one")
        print("a line")
    capture.close(keeps=False)
    (name,) = fsspec.filesystem("memory").ls("/runs/one/logs", detail=False)
    assert fsspec.filesystem("memory").cat(name) == b"a line\n"
    assert not capture.path.exists()


def test_messages_and_secrets_do_not_reach_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    from laclip_ray import redaction

    got: list[Message] = []
    monkeypatch.setenv("HF_TOKEN", "hf_verysecretvalue123")
    redaction.register_environment()
    capture = Capture("train", got.append)
    with capture.open():
        print(f'{progress.MARK} {{"kind": "TrainingStep", "output": "o", "step": 4}}')
        print("token hf_verysecretvalue123")
    capture.close(keeps=True)
    assert got == [TrainingStep("o", 4)]
    assert capture.path.read_text() == "token ***\n"
    capture.path.unlink()
