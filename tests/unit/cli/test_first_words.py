"""Before a verb's first words, and before a refusal of its config, no large library is imported."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.test_commands import COMMANDS

HEAVY = (
    *("ray", "torch", "torchvision", "vllm", "transformers", "sentence_transformers", "open_clip", "timm"),
    *("pandas", "pyarrow", "optuna", "matplotlib", "PIL"),
)

WORDS: dict[str, list[str]] = {
    "init": ["data"],
    "demo": ["--output", "out"],
    "doctor": ["CONFIG"],
    "estimate": ["CONFIG"],
    "plan": ["CONFIG"],
    "rewrite": ["CONFIG"],
    "train": ["CONFIG"],
    "run": ["CONFIG"],
    "evaluate": ["CONFIG"],
    "tune": ["CONFIG"],
    "submit": ["train", "CONFIG", "--address", "http://localhost:1"],
    "status": ["CONFIG"],
    "report": ["CONFIG"],
    "version": [],
    "data check": ["CONFIG"],
    "data index": ["CONFIG"],
    "rewrites preview": ["CONFIG"],
    "rewrites inspect": ["CONFIG"],
    "rewrites retry": ["CONFIG", "--reason", "refusal"],
    "rewrites probe": ["CONFIG"],
    "rewrites import": ["CONFIG", "captions.csv", "texts.txt"],
    "rewrites export": ["CONFIG", "all.parquet", "--to", "parquet"],
    "gate calibrate": ["labelled.jsonl", "--config", "CONFIG"],
    "prompts list": [],
    "prompts import": ["lists.py"],
    "checkpoint import": ["model.pt", "imported"],
    "checkpoint export": ["export", "others"],
}
"""By verb, words that it takes."""
CONFIGS = [verb for verb, words in WORDS.items() if "CONFIG" in words]

# Runs each command line up to its first words, or to its error, in one process, and tells what is imported then.
PROGRAM = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from laclip_ray.cli import ending, main

class Begun(SystemExit):
    pass

def stop(*arguments, **named):
    raise Begun(0)

ending.announce = ending.finish = stop
for words in json.loads(sys.argv[1]):
    errors = io.StringIO()
    code = 0
    with redirect_stderr(errors), redirect_stdout(errors):
        try:
            main(words)
        except SystemExit as ended:
            code = "begun" if isinstance(ended, Begun) else ended.code
    loaded = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    print(json.dumps({"verb": " ".join(words[:2]), "code": code, "loaded": loaded, "errors": errors.getvalue()}))
"""


def outcomes(lines: list[list[str]], directory: Path) -> list[dict[str, Any]]:
    """What each command line had imported when it began or ended."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(lines), json.dumps(HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=directory)
    return [json.loads(line) for line in done.stdout.splitlines()]


def command_line(verb: str, config: str, *more: str) -> list[str]:
    """The words of a verb with a config."""
    return [*verb.split(), *(config if word == "CONFIG" else word for word in WORDS[verb]), *more]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "good.yaml").write_text("name: a\noutput: out\ndata: {path: data}\n")
    (tmp_path / "unknown_key.yaml").write_text("name: a\noutput: out\ndata: {path: data, captoin_column: a}\n")
    (tmp_path / "no_yaml.yaml").write_text("name: [a\n")
    (tmp_path / "no_data.yaml").write_text("name: a\noutput: out\ndata: {path: none}\n")
    return tmp_path


def test_every_verb_is_looked_at() -> None:
    assert {" ".join(words) for words, command in COMMANDS.items() if not hasattr(command, "commands")} == {*WORDS}


def test_first_words_come_before_any_large_library(directory: Path) -> None:
    for outcome in outcomes([command_line(verb, "good.yaml") for verb in WORDS], directory):
        assert (outcome["code"], outcome["loaded"]) == ("begun", []), outcome


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("unknown_key.yaml", "data.captoin_column: unknown key; the nearest key is data.caption_column"),
        ("no_yaml.yaml", "not readable as YAML"),
        ("missing.yaml", "there is no such config file"),
    ],
)
def test_a_bad_config_is_refused_before_any_large_library(config: str, message: str, directory: Path) -> None:
    for outcome in outcomes([command_line(verb, config) for verb in CONFIGS if verb != "submit"], directory):
        assert (outcome["code"], outcome["loaded"]) == (2, []), outcome
        assert message in outcome["errors"]


def test_missing_data_is_refused_before_any_large_library(directory: Path) -> None:
    reading = [verb for verb in CONFIGS if verb not in ("submit", "status", "report", "doctor", "evaluate")]
    lines = [command_line(verb, "no_data.yaml") for verb in reading if verb != "gate calibrate"]
    for outcome in outcomes(lines, directory):
        assert (outcome["code"], outcome["loaded"]) == (2, []), outcome
        assert f"data.path: {str(directory / 'none')!r} does not exist" in outcome["errors"]


def test_help_imports_no_config(directory: Path) -> None:
    program = "import sys; from laclip_ray.cli import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {*done.stdout.splitlines()[-1].split()}
    assert loaded & {*HEAVY, "pydantic", "yaml", "fsspec", "asyncio"} == set()
