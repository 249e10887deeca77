"""Figures of what a person sees while a verb works: the lines of a demo, and how long a terminal is silent."""

import itertools
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.figures.figure import Figure, exit_code

SLOW_RUN_MIN = "LACLIP_SLOW_RUN_MIN"
"""Environment variable: minutes of the slow run, for a try. Default: 20."""
_FOREIGN = re.compile(
    r"pid=\d+|^\[?\d{4}-\d\d-\d\d[ T]|^\[?[IWEF]\d{4} |core_worker|raylet|site-packages|\bvllm\b.*:|Triton|Warning:|"
    r"^\s*File \"|Traceback|safetensors checkpoint"
)
"""Lines in the shape that Ray, vLLM, torch and Python's warnings give them."""
_ERROR_LEVEL = re.compile(r" E \d+ \d+\]|\bERROR\b|\bCRITICAL\b|\bFATAL\b|Traceback", re.IGNORECASE)
_POLL_S = 0.1
_SLOW_RUN = """
import sys
from functools import partial
from laclip_ray.cli.process import run_process
from laclip_ray.rewriting.running import pipeline
from tests.integration.scripted_engine import ScriptedEngine

pipeline.run_rewriting.__defaults__ = (partial(ScriptedEngine, delay_s={delay_s}), ())
run_process(["rewrite", {config!r}])
"""


def log(show: int) -> Iterator[Figure]:
    """The demo's lines in a pipe, and the longest silence of a slow run on a terminal."""
    with tempfile.TemporaryDirectory() as directory:
        yield from _demo(show, Path(directory))
    with tempfile.TemporaryDirectory() as directory:
        yield from _slow_run(show, Path(directory))


def _demo(show: int, directory: Path) -> Iterator[Figure]:
    done = subprocess.run(
        [sys.executable, "-m", "laclip_ray", "demo", "--output", str(directory / "demo")],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    text = done.stdout.decode(errors="replace")
    lines = text.splitlines()
    libraries = {
        line.strip()
        for file in (directory / "demo" / "logs").glob("*.log")
        for line in file.read_text(errors="replace").splitlines()
        if line.strip()
    }
    foreign = [line for line in lines if _FOREIGN.search(line) or line.strip() in libraries]
    for line in foreign:
        print(f"  not ours: {line}")
    yield exit_code(show, "demo in a pipe: exit code", done.returncode)
    yield Figure(show, "its lines", len(lines), "lines", at_least=20)
    yield Figure(show, "lines of libraries in its logs", len(libraries), "lines", at_least=5)
    yield Figure(show, "lines that are not ours", len(foreign), "lines", at_most=0)
    yield Figure(show, "error-level lines", sum(bool(_ERROR_LEVEL.search(line)) for line in lines), "lines", at_most=0)
    yield Figure(show, "control codes", text.count("\x1b") + text.count("\r"), "characters", at_most=0)


def _slow_run(show: int, directory: Path) -> Iterator[Figure]:
    """Rewriting with an engine that takes its time, on a terminal."""
    minutes = float(os.environ.get(SLOW_RUN_MIN, "20"))
    captions = 20_000
    data = directory / "captions.csv"
    data.write_text("caption\n" + "".join(f"a picture of number {number}\n" for number in range(captions)))
    config = directory / "slow.yaml"
    config.write_text(
        f"name: slow\noutput: {directory / 'out'}\n"
        f"data: {{path: {data}, max_rows_per_shard: 10000}}\n"
        "rewrite: {model: demo-rewriter, prompt_sets: [cleaned], gate: {meaning: null}}\n"
    )
    # Both shards at a time, each with 1,024 requests in flight.
    delay_s = minutes * 60 / (captions / 2_048)
    program = _SLOW_RUN.format(delay_s=delay_s, config=str(config))
    shown, stall_s, code = _run_on_terminal([sys.executable, "-c", program])
    before, after = max(itertools.pairwise(shown), key=lambda pair: pair[1].at_s - pair[0].at_s)
    print(f"  the longest silence begins after {before.at_s - shown[0].at_s:.1f} s")
    print(f"  between {before.text[-200:]!r} and {after.text[:200]!r}")
    yield exit_code(show, "slow run on a terminal: exit code", code)
    yield Figure(show, "its length", (shown[-1].at_s - shown[0].at_s) / 60, "min", at_least=0.9 * minutes)
    yield Figure(show, "its longest silence", after.at_s - before.at_s, "s", at_most=2.0)
    yield Figure(show, "longest stall of the process that only watches it", stall_s, "s")


@dataclass(frozen=True)
class _Shown:
    """What a command printed at once."""

    at_s: float
    text: str


def _run_on_terminal(command: list[str]) -> tuple[list[_Shown], float, int]:
    """Run a command on a terminal of its own.

    Returns:
        What it printed, with an empty text at its start and at its end; the longest delay of this process's own
        wake-ups, in seconds (a machine that stands still delays all processes); and the exit code.
    """
    main, terminal = pty.openpty()
    shown, stall_s = [_Shown(time.monotonic(), "")], 0.0
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True) as process:
        os.close(terminal)
        while process.poll() is None:
            waits_from_s = time.monotonic()
            ready, _, _ = select.select([main], [], [], _POLL_S)
            stall_s = max(stall_s, time.monotonic() - waits_from_s - _POLL_S)
            if ready:
                try:
                    text = os.read(main, 65_536).decode(errors="replace")
                except OSError:  # the other end is closed
                    break
                shown.append(_Shown(time.monotonic(), text))
        process.wait()
    os.close(main)
    return [*shown, _Shown(time.monotonic(), "")], stall_s, process.returncode
