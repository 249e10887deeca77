"""How verbs end: for a person, in one line, and for machines."""

import errno
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from laclip_ray.cli import main
from laclip_ray.cli.ending import Ending, announce, finish
from laclip_ray.cli.next_steps import Step
from laclip_ray.endings.signals import interrupt_main_thread
from laclip_ray.errors import IncompleteError, SurroundingsError, UserError
from laclip_ray.rewriting.running import pipeline

STEPS = [Step("laclip train a.yaml", "a model"), Step("laclip rewrites inspect a.yaml", "samples")]


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(f"name: test\noutput: {tmp_path}/out\ndata: {{path: {tmp_path}/data}}\n")
    return str(path)


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Callable[[Ending], None]:
    """Let `laclip version` end in some way."""

    def set_ending(ending: Ending) -> None:
        from laclip_ray.cli import version

        monkeypatch.setattr(version, "finish", lambda _: finish(ending, lambda: print("details")))

    return set_ending


def exit_code(*words: str) -> int:
    try:
        main(words)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (Ending("made it"), ["details", "made it"]),
        (Ending("nothing to do: all is there", nothing_to_do=True), ["nothing to do: all is there", "details"]),
        (Ending("made it", is_in_details=True), ["details"]),
        (
            Ending("made it", next=STEPS),
            [
                *("details", "made it", "next:"),
                "  laclip train a.yaml             # a model",
                "  laclip rewrites inspect a.yaml  # samples",
            ],
        ),
    ],
    ids=lambda value: value.done if isinstance(value, Ending) else "",
)
def test_a_person_reads_what_was_done_and_what_comes_next(
    ends: Callable[[Ending], None], ending: Ending, expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    ends(ending)
    main(["version"])
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize("is_in_details", [False, True])
def test_quiet_verbs_print_one_line(
    ends: Callable[[Ending], None], is_in_details: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(Ending("made it", next=STEPS, is_in_details=is_in_details))
    main(["version", "--quiet"])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("made it\n", "")


def test_hostile_texts_are_escaped_and_secrets_hidden(
    ends: Callable[[Ending], None], capsys: pytest.CaptureFixture[str]
) -> None:
    ends(Ending("a\x1b[2Jb https://me:secret@host\n", next=[Step("laclip report '\x1b[2J'", "x")]))
    main(["version"])
    printed = capsys.readouterr().out
    assert "a\\x1b[2Jb https://***@host\\n" in printed
    assert "\x1b" not in printed


def test_machines_get_one_object(ends: Callable[[Ending], None], capsys: pytest.CaptureFixture[str]) -> None:
    ends(Ending("made it", {"model": "/runs/a"}, {"steps": 3}, STEPS))
    main(["version", "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "verb": "version",
        "exit_code": 0,
        "outcome": "complete",
        "done": "made it",
        "nothing_to_do": False,
        "outputs": {"model": "/runs/a"},
        "summary": {"steps": 3},
        "next": [step.command for step in STEPS],
    }
    assert printed.err == ""


def test_a_command_says_nothing_of_the_one_before(
    ends: Callable[[Ending], None], config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ends(Ending("made it", {"model": "/runs/a"}, {"steps": 3}, STEPS))
    main(["version", "--json"])
    capsys.readouterr()
    missing = f"{Path(config).parent}/pictures.yaml"
    assert exit_code("rewrite", missing, "--json") == 2
    assert json.loads(capsys.readouterr().out) == {
        "verb": "rewrite",
        "exit_code": 2,
        "outcome": "bad input",
        "error": f"{missing}: there is no such config file",
    }


@pytest.mark.parametrize(
    ("error", "code", "outcome", "message"),
    [
        (UserError("data.path: bad"), 2, "bad input", "data.path: bad"),
        (IncompleteError("2 are missing"), 3, "incomplete", "2 are missing"),
        (SurroundingsError("the disk is full"), 4, "environment", "the disk is full"),
        (OSError(errno.ENOSPC, "No space left", "/out/x"), 4, "environment", "the disk is full"),
        (RuntimeError("a bug"), 1, "failed", "unexpected error: RuntimeError: a bug"),
    ],
    ids=str,
)
def test_a_failure_is_one_object_too(
    config: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
    outcome: str,
    message: str,
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "run_rewriting", fail)
    assert exit_code("rewrite", config, "--json") == code
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert (content["verb"], content["exit_code"], content["outcome"]) == ("rewrite", code, outcome)
    assert message in content["error"]
    assert content["outputs"] == {"rewrites": str(Path(config).parent / "out" / "rewrites")}
    assert f"error: {content['error']}\n" in printed.err


def test_an_interruption_is_one_object_with_the_same_command(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(pipeline, "run_rewriting", interrupt)
    try:
        assert exit_code("rewrite", config, "train.epochs=2", "--json") == 130
    finally:
        _forget_signal()
    content = json.loads(capsys.readouterr().out)
    assert (content["exit_code"], content["outcome"]) == (130, "interrupted")
    assert content["next"] == [f"laclip rewrite {config} train.epochs=2 --json"]


def _forget_signal() -> None:
    """An interrupted command leaves its watch to guard the end of the process, which goes on here."""
    from laclip_ray.endings import signals

    if signals._active is not None:
        signals._active.stop()
    assert not interrupt_main_thread()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rewrit", "a.yaml"], "laclip: there is no verb 'rewrit'; did you mean rewrite? `laclip -h`"),
        (["data", "chek"], "laclip data: there is no verb 'chek'; did you mean check? `laclip data -h`"),
        (["train"], "laclip train: missing argument 'CONFIG'. `laclip train -h` shows what it takes"),
        (["train", "a", "--quite"], "laclip train: there is no option --quite; did you mean --quiet? `laclip train"),
        (["rewrites", "export", "a", "b", "--to", "parqet"], "'webdataset'; did you mean parquet? `laclip rewrites"),
        (["train", "a", "-x"], "laclip train: no such option: -x. `laclip train -h` shows"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_in_the_command_line_is_one_sentence_with_the_nearest_name(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert exit_code(*words, "--json") == 2
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert message in content["error"]


def test_first_words_are_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from laclip_ray.cli import version

    monkeypatch.setattr(version, "finish", lambda _: announce("a.yaml -> /runs/\x1b"))
    for option, expected in (("--debug", "laclip version: a.yaml -> /runs/\\x1b\n"), ("--quiet", ""), ("--json", "")):
        main(["version", option])
        assert capsys.readouterr().err == expected


def test_a_dry_run_is_one_object_too(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", config, "train.epochs=3", "--dry-run", "--json"])
    assert json.loads(capsys.readouterr().out)["summary"]["config"]["train"]["epochs"] == 3
