"""Each documented command has a place where it runs, or a reason; the short ones run here."""

import os
import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests import documentation, documented_runs
from tests.documentation import PAGES, REPOSITORY, Command
from tests.documented_shell import options_of_commands, parse, run
from tests.documented_world import VARIABLES, write_authors_files, write_configs

FOUND = {command.text: command for page in PAGES for command in documentation.commands(page)}
TABLES = [
    *documented_runs.CHAPTERS.values(),
    *(documented_runs.SHORT, documented_runs.RESOLVED, documented_runs.ELSEWHERE, documented_runs.NOT_RUN),
]


def test_each_command_has_one_place() -> None:
    placed = Counter(command for table in TABLES for command in table)
    assert placed == Counter(FOUND.keys()), "give it a place in tests/documented_runs.py"


@pytest.mark.parametrize("name", sorted({*documented_runs.ELSEWHERE.values(), *documented_runs.RESOLVED.values()}))
def test_a_test_that_runs_a_command_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert f"\ndef {function}(" in (REPOSITORY / path).read_text()


@pytest.mark.parametrize("command", FOUND.values(), ids=str)
def test_a_command_that_runs_elsewhere_or_nowhere_names_what_exists(command: Command) -> None:
    if command.text not in {**documented_runs.ELSEWHERE, **documented_runs.NOT_RUN}:
        return
    words = command.words
    match words:
        case ["laclip", option] if option.startswith("--"):
            assert option in options_of_commands()[""]  # to parse it would run it
        case ["laclip", *_]:
            assert parse(synopsis_words(command.text)[1:])
        case ["make", target, *_]:
            assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for word in words:
        if re.match(r"(?:cluster|requirements|jobs|tests|configs)/", word):
            assert (REPOSITORY / word).exists(), word
            if word.endswith(".yaml"):
                assert [*yaml.safe_load_all((REPOSITORY / word).read_text())]


INLINE = sorted({text for page in PAGES for text in documentation.inline_commands(page)})


@pytest.mark.parametrize("text", [text for text in INLINE if not text.startswith("laclip VERB")])
def test_a_command_in_a_sentence_has_a_verb_and_options_that_exist(text: str) -> None:
    words, known = synopsis_words(text)[1:], options_of_commands()
    verb = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
    assert {word for word in words if word.startswith("--")} <= known[verb]


def synopsis_words(text: str) -> list[str]:
    """The words of a synopsis, with its optional parts."""
    text = re.sub(r"\[--[a-z-]+ \.\.\.\]", "", text)
    text = re.sub(r"\[(?:key=value|KEY=VALUE)(?: \.\.\.)?\](?:\.\.\.)?", "name=x", text)
    return shlex.split(re.sub(r"\[(--[^\]]*)\]", r"\1", text))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the short commands read, in the current directory."""
    write_configs(tmp_path)
    write_authors_files(tmp_path)
    (tmp_path / "pairs.py").write_text("pairs = " + repr([(f"thing {n}", f"A thing, {n}.") for n in range(4)]))
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs", dirs_exist_ok=True)
    for name, value in {**dict.fromkeys(VARIABLES, "s3://BUCKET"), "RAY_AUTH_MODE": ""}.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_short_commands_run(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for documented, runs_as in documented_runs.SHORT.items():
        run(documented_runs.command_to_run(documented, runs_as))
    printed = capsys.readouterr().out
    assert {path.stem for path in world.glob("*.yaml")} == {"chatgpt", "bard", "mscoco", "human"}
    assert "would be submitted as: python -m laclip_ray run" in printed


@pytest.mark.parametrize("documented", documented_runs.RESOLVED)
def test_the_config_of_a_command_is_resolved(world: Path, documented: str, capsys: pytest.CaptureFixture[str]) -> None:
    (world / "birds.yaml").write_text("name: birds\noutput: runs/birds\ndata: {path: birds}\n")
    command = documented_runs.command_to_run(documented, "")
    run(f"{command} --dry-run")
    resolved = yaml.safe_load(capsys.readouterr().out)
    for word in shlex.split(os.path.expandvars(command)):
        if "=" in word:
            keys, _, value = word.partition("=")
            section, key = keys.split(".")
            assert resolved[section][key] == yaml.safe_load(value)
