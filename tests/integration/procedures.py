"""What both a test and a figure measure, so that the figure is of the thing that is tested."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from ray._common.utils import reset_ray_address

from laclip_ray import storage
from laclip_ray.config import Experiment, to_yaml
from laclip_ray.data.tokens import load_clip_tokenizer, tokenizer_spec
from laclip_ray.demo.language import is_faithful
from laclip_ray.models.building import create_model
from laclip_ray.models.pixels import normalise, offset_and_factor
from laclip_ray.models.specs import load_model_spec
from laclip_ray.rewriting.engines.orphan_guard import OWNER_VARIABLE
from laclip_ray.rewriting.running.backlog import find_backlog

REPOSITORY = Path(__file__).parents[2]
_ENCODING_ACTOR = "ray::MapWorker(MapBatches(_EncodingActor))"


def real_data() -> Path | None:
    """The directory of real captions and images, where there is one."""
    named = os.environ.get("LACLIP_TEST_DATA")
    directory = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return directory if directory.is_dir() else None


def wait_for(condition: Callable[[], Any], timeout_s: float, what: str) -> None:
    """Return once `condition` holds; fail after `timeout_s`."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what} did not happen in {timeout_s:.0f} s"
        time.sleep(0.2)


def kill_an_encoder() -> int:
    """Kill the first encoding actor of an evaluation that appears; its process id."""
    killed: list[int] = []

    def kill() -> bool:
        for process in psutil.process_iter(["cmdline"]):
            if process.info["cmdline"] and process.info["cmdline"][0].startswith(_ENCODING_ACTOR):
                process.kill()
                killed.append(process.pid)
                break
        return bool(killed)

    wait_for(kill, 60, "the start of an encoding actor")
    return killed[0]


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def engine_processes() -> list[int]:
    """Processes on this machine that an engine's owner has started."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{OWNER_VARIABLE}=".encode() in (directory / "environ").read_bytes()
            if marked or (directory / "cmdline").read_bytes().startswith(b"VLLM::"):
                found.append(int(directory.name))
        except OSError:
            continue
    return found


def engine_owners(min_age_s: float = 3.0) -> list[psutil.Process]:
    """The actors of engine processes that are not only of a moment (vLLM asks the system this and that)."""
    found = engine_processes()
    owners = {}
    for pid in found:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            parent = process.parent()
            if parent is not None and parent.pid not in found and time.time() - process.create_time() > min_age_s:
                owners[parent.pid] = parent
    return list(owners.values())


def child_environment(address: str | None = None) -> dict[str, str]:
    """The environment of a program that this process starts.

    A Ray started here has written a token, which submitting a job then uses: the head must ask for it too.

    Args:
        address: of the Ray that the program uses. None: it starts one.
    """
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return {**environment, "RAY_AUTH_MODE": "token"} if address is None else {**environment, "RAY_ADDRESS": address}


@contextmanager
def head_node(log: Path, cpus: int = 4, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """A head node as `ray start --head` makes it; gives the address that jobs are submitted to."""
    port, dashboard_port = free_port(), free_port()
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--num-cpus={cpus}"),
        *(f"--port={port}", f"--dashboard-port={dashboard_port}", f"--ray-client-server-port={free_port()}"),
        f"--dashboard-agent-listen-port={free_port()}",
        "--disable-usage-stats",
    ]
    with running_head(command, log, environment or child_environment()):
        yield f"http://127.0.0.1:{dashboard_port}"


@contextmanager
def running_head(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A head node that `ray start --head --block` runs in this context.

    Args:
        command: the whole command.
        log: gets its output.
        environment: of its processes.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        wait_for(lambda: b"will now block" in log.read_bytes(), 60, "the head's start")
        yield
    finally:
        # Told to end, a head first drains for half a minute.
        for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        # Killed, it leaves its address where Ray looks for one: each training run on a Ray of its own would ask there
        # whether its controller lives, and wait for 12 seconds at its end.
        reset_ray_address()


def submit_job(address: str, *arguments: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """`ray job submit` from the repository's root, followed to the job's end."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", address, *options),
        *("--working-dir", ".", "--", sys.executable, *arguments),
    ]
    for _ in range(5):
        job = subprocess.run(
            command, cwd=REPOSITORY, env=child_environment(), capture_output=True, text=True, timeout=500, check=False
        )
        if "No available agent" not in job.stderr:
            return job
        time.sleep(1)  # a new head takes a few seconds until it takes jobs
    return job


@dataclass(frozen=True)
class KillAndResume:
    """What came of killing a rewriting run and finishing it as a submitted job."""

    units: int
    """Shards times prompt sets."""
    committed_before: int
    committed_after: int
    """By the second run."""
    missing_ids: int
    repeated_ids: int
    engine_processes_left: int
    faithful_share: float
    """Of the demo's rewriter's rewrites."""
    cached_tokens: int
    job_exit_code: int
    job_output: str


def kill_and_resume(experiment: Experiment, expected_ids: list[str], directory: Path) -> KillAndResume:
    """After the first commit, `kill -9` a rewriting run's actor, then its driver; finish it with `ray job submit`.

    Ray starts a killed actor's engine again (`chaos`). Here the driver dies first, which saves a start.

    Raises:
        AssertionError: a killed actor's or driver's engine processes do not end.
    """
    config = directory / "config.yaml"
    config.write_text(to_yaml(experiment))
    sets = find_backlog(experiment).sets
    units = len(sets) * len(find_backlog(experiment).shards)

    def committed() -> int:
        return sum(len(each.committed_revisions()) for each in sets.values())

    with (directory / "first.log").open("wb") as log:
        first = subprocess.Popen(
            [sys.executable, "-m", "laclip_ray", "rewrite", str(config)],
            stdout=log, stderr=log, env=child_environment(), cwd=REPOSITORY,
        )  # fmt: skip
    wait_for(lambda: committed() or first.poll() is not None, 300, "the first commit")
    assert first.poll() is None, (directory / "first.log").read_text()
    orphans = {*engine_processes()}
    assert orphans, "the engine's processes cannot be told"
    for actor in engine_owners():
        actor.kill()
    wait_for(lambda: not orphans & {*engine_processes()}, 30, "the end of the killed actor's engine processes")
    assert first.poll() is None, (directory / "first.log").read_text()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    wait_for(lambda: not engine_processes(), 60, "the end of every engine process")
    before = committed()
    with head_node(directory / "head.log") as address:
        job = submit_job(address, "jobs/rewrite.py", str(config))
        assert job.returncode == 0, job.stdout[-3000:] + job.stderr[-3000:]
        summary = storage.read_json(storage.join(experiment.rewrite_output, "summary.json"))
    with suppress(AssertionError):
        wait_for(lambda: not engine_processes(), 30, "the end of every engine process")
    left = len(engine_processes())
    seen: list[Counter[str]] = []
    faithful: list[bool] = []
    cached_tokens = 0
    for each in sets.values():
        ids: Counter[str] = Counter()
        for shard, revision in each.committed_revisions().items():
            for row in each.read(shard, revision).to_pylist():
                ids[row["id"]] += row["attempt"] == 0
                faithful.append(is_faithful(row["caption"], row["text"] or ""))
                cached_tokens += row["cached_tokens"]
        seen.append(ids)
    return KillAndResume(
        units=units,
        committed_before=before,
        committed_after=summary["commits"],
        missing_ids=sum(len({*expected_ids} - ids.keys()) for ids in seen),
        repeated_ids=sum(number > 1 for ids in seen for number in ids.values()),
        engine_processes_left=left,
        faithful_share=sum(faithful) / max(1, len(faithful)),
        cached_tokens=cached_tokens,
        job_exit_code=job.returncode,
        job_output=job.stdout + job.stderr,
    )


_STRANGER = """
import sys, numpy, open_clip, torch
from PIL import Image
export, picture, output = sys.argv[1:]
model, _, transform = open_clip.create_model_and_transforms("local-dir:" + export)
tokens = open_clip.get_tokenizer("local-dir:" + export)(["a picture of two red cups", "snow"])
model.eval()
pixels = transform(Image.open(picture))[None]
with torch.no_grad():
    numpy.savez(output, pixels=pixels, image=model.encode_image(pixels), text=model.encode_text(tokens))
assert not [name for name in sys.modules if name.startswith("laclip_ray")]
"""


def export_differences(experiment: Experiment, checkpoint: str, export: str, directory: Path) -> dict[str, float]:
    """The largest difference of pixels and features: ours, against a process that only knows open_clip.

    Ours are made from the checkpoint with this package's own model and normalisation, of a picture that has the
    model's size.
    """
    from safetensors.torch import load_file

    spec = load_model_spec(experiment.model.name)
    size = spec.image.size_px
    picture = np.random.Generator(np.random.Philox(5)).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(picture).save(directory / "picture.png")
    arguments = [export, str(directory / "picture.png"), str(directory / "theirs.npz")]
    stranger = [sys.executable, "-c", _STRANGER, *arguments]
    # A record of messages puts this package into each process by PYTHONPATH.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(stranger, check=True, cwd=directory, env=environment, timeout=300)
    theirs = np.load(directory / "theirs.npz")
    model: Any = create_model(spec, seed=0).eval()
    model.load_state_dict(load_file(f"{checkpoint}/open_clip_model.safetensors"))
    pixels = normalise(torch.as_tensor(picture)[None], *offset_and_factor(spec.image, torch.device("cpu")))
    tokens = load_clip_tokenizer(tokenizer_spec(experiment.model.name))(["a picture of two red cups", "snow"])
    with torch.no_grad():
        ours = {"pixels": pixels, "image": model.encode_image(pixels), "text": model.encode_text(tokens)}
    return {name: float(np.abs(value.numpy() - theirs[name]).max()) for name, value in ours.items()}
