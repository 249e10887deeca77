"""Two runs into one output: how many work, and how long a killed owner keeps the next one waiting."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.lease import RENEW_S, STALE_S, hold
from tests.figures.figure import Figure

PAIRS = 20
LONGEST_DELAY_S = 0.5
"""The second process of a pair starts at most this much later."""
TIMEOUT_S = 180
ROWS = 50
REPOSITORY = Path(__file__).parents[2]


def lease(show: int) -> Iterator[Figure]:
    """Pairs of imports that start at random times; and an owner that is killed, on this machine and on another one."""
    random = Random(0)
    with tempfile.TemporaryDirectory() as name:
        pairs = [_pair(_write_inputs(Path(name) / str(number)), random) for number in range(PAIRS)]
        good = sum(sorted(codes) == [0, 2] for codes, _ in pairs)
        yield Figure(show, f"of {PAIRS} pairs, exactly one run works, one is refused", good, "pairs", at_least=PAIRS)
        wrong = sum(commits != 1 for _, commits in pairs)
        yield Figure(show, "pairs whose shard is not committed exactly once", wrong, "pairs", at_most=0)
        waited_s = _taken_over_after_s(_write_inputs(Path(name) / "here"), "here")
        yield Figure(show, "owner killed on this machine, taken over after", waited_s, "s", at_most=2.0)
        waited_s = _taken_over_after_s(_write_inputs(Path(name) / "elsewhere"), "elsewhere")
        name = f"owner killed on another machine, taken over after ({STALE_S:.0f} s after its last renewal)"
        yield Figure(show, name, waited_s, "s", at_least=STALE_S - RENEW_S, at_most=STALE_S + 2.0)


def _write_inputs(directory: Path) -> Path:
    """A table of captions, a line of text for each, and a config."""
    directory.mkdir()
    rows = [(f"{row}.jpg", f"a photo of thing number {row}") for row in range(ROWS)]
    table = "".join(json.dumps({"image": image, "caption": caption}) + "\n" for image, caption in rows)
    (directory / "data.jsonl").write_text(table)
    (directory / "captions.csv").write_text("".join(f"{image},{caption}\n" for image, caption in rows))
    (directory / "cleaned.txt").write_text("".join(f"thing number {row} in a photo\n" for row in range(ROWS)))
    config = {
        "name": "lease",
        "output": str(directory / "out"),
        "data": {"path": str(directory / "data.jsonl"), "image_column": "image"},
    }
    (directory / "config.yaml").write_text(json.dumps(config))
    return directory


def _start(directory: Path, work_s: float, machine: str = "here") -> "subprocess.Popen[str]":
    """A process that is ready to import, and does it when it gets a line."""
    command = [sys.executable, "-m", "tests.figures.right_lease_run", str(directory), str(work_s), machine]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _pair(directory: Path, random: Random) -> tuple[list[int], int]:
    """The exit codes of two imports, and how many files of draws they left."""
    processes = [_start(directory, work_s=4 * LONGEST_DELAY_S) for _ in range(2)]
    random.shuffle(processes)
    _go(processes[0])
    time.sleep(random.uniform(0, LONGEST_DELAY_S))
    _go(processes[1])
    codes = [process.wait(TIMEOUT_S) for process in processes]
    return codes, len(storage.list_files(str(directory / "out" / "rewrites" / "cleaned" / "draws")))


def _taken_over_after_s(directory: Path, machine: str) -> float:
    """Seconds from the death of an owner to the next run that gets its output."""
    process = _start(directory, work_s=TIMEOUT_S, machine=machine)
    _go(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.kill()
    process.wait()
    killed_s = time.monotonic()
    while True:
        try:
            with hold(str(directory / "out" / "rewrites"), "rewrite.output", "rewrite"):
                return time.monotonic() - killed_s
        except UserError:
            assert time.monotonic() - killed_s < TIMEOUT_S
            time.sleep(0.2)
