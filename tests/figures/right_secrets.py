"""A search for secrets in everything that runs write and print."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.figures.figure import Figure, exit_code
from tests.integration.procedures import child_environment
from tests.structure import REPOSITORY

SECRETS = {"variable": "hf_5ecret0f7heRun", "password": "pa55w0rdOfTheHost", "signature": "5ignatureOfTheUrl"}
"""A token by `${NAME}`, a password in a URL, and a URL's signature on the command line."""


def secrets(show: int) -> Iterator[Figure]:
    """Files and output of a rewriting, a training, a sweep and a failed run that hold one of three secrets."""
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        (directory / "work").mkdir()
        config = write_config(directory)
        printed = b""
        for verb, expected, overrides in (
            ("rewrite", 0, ()),
            ("train", 0, ()),
            ("evaluate", 0, ()),
            ("tune", 0, ("tune.p=[0.5]", "train.epochs=2")),
            ("estimate", 0, ()),
            ("rewrite", None, ("data.path=https://me:{password}@127.0.0.1:9/data.tar?sig={signature}",)),
            ("train", None, ("train.epochs=zero", "rewrite.engine.args.hf_token={signature}")),
        ):
            done = run(verb, config, [text.format(**SECRETS) for text in overrides], directory / "work")
            printed += done.stdout + done.stderr
            if expected is not None:
                yield exit_code(show, f"exit code of {verb}", done.returncode, expected)
            else:
                yield Figure(show, f"{verb} with wrong input: is refused", int(done.returncode != 0), "", at_least=1)
        files = [path for path in directory.rglob("*") if path.is_file() and path != config]
        hits = [(path, name) for path in files for name, secret in SECRETS.items() if holds(path.read_bytes(), secret)]
        for path, name in hits:
            print(f"{path.relative_to(directory)} holds the {name}", file=sys.stderr)
        yield Figure(show, "files searched", len(files), "files", at_least=20)
        yield Figure(show, "secrets found in files", len(hits), "", at_most=0)
        said = sum(holds(printed, secret) for secret in SECRETS.values())
        yield Figure(show, "secrets found in output", said, "", at_most=0)


def holds(content: bytes, secret: str) -> bool:
    """Whether bytes hold a secret, as text or as the hexadecimal digits that Ray Tune writes."""
    return secret.encode() in content or secret.encode().hex().encode() in content


def write_config(directory: Path) -> Path:
    """Make a small world, and the config of an experiment on it with three secrets."""
    from laclip_ray.demo.world import write_world

    world = directory / "world"
    write_world(world, train_count=200, test_count=60, retrieval_count=20, samples_per_shard=50)
    content = {
        "name": "secrets",
        "output": str(directory / "output"),
        "data": {
            "path": str(world / "train"),
            "image_root": "https://me:${LACLIP_PASSWORD}@host/images?sig=${LACLIP_SIG}",
        },
        "rewrite": {
            "model": "demo-rewriter",
            "prompt_sets": ["crowd"],
            "gate": {"min_shared_words": 0, "drop_lost_numbers": False},
            "engine": {"args": {"max_num_seqs": 64, "dtype": "bfloat16", "hf_token": "${LACLIP_TOKEN}"}},
        },
        "model": {"name": str(REPOSITORY / "laclip_ray" / "demo" / "clip.json")},
        "text": {"p": 0.5},
        "train": {"epochs": 2, "batch_size": 50, "checkpoint": {"every_steps": 2}},
        "ray": {"local_cpus": 4},
        "evaluate": {"labelled": [{"name": "world", "path": str(world)}]},
    }
    config = directory / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    return config


def run(verb: str, config: Path, overrides: list[str], cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a verb with the secrets in its environment."""
    environment = {
        **child_environment(),
        "LACLIP_TOKEN": SECRETS["variable"],
        "LACLIP_PASSWORD": SECRETS["password"],
        "LACLIP_SIG": SECRETS["signature"],
        "PYTHONPATH": str(REPOSITORY),
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),  # noqa: S108 - Ray's sockets need a short path
    }
    return subprocess.run(
        [sys.executable, "-m", "laclip_ray", verb, str(config), *overrides],
        env=environment,
        cwd=cwd,
        capture_output=True,
        timeout=500,
        check=False,
    )
