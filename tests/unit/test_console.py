"""Texts from data reach the terminal as they are, but for control characters, which are escaped."""

import io
from collections import Counter

import pytest
from rich.console import Console

from laclip_ray.cli import options, rewrites
from laclip_ray.console import print_inspection, print_rewriting
from laclip_ray.rewriting.inspection import Inspection, ShownDraw
from laclip_ray.rewriting.running.result import RewritingResult
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.transfer.export_files import ExportResult
from tests.cases import case

HOSTILE = "a\x1b[2J\x07\r\u202e:dog: [bold]b"
ESCAPED = "a\\x1b[2J\\x07\\r\\u202e:dog: [bold]b"


def console() -> Console:
    return Console(file=io.StringIO(), width=300, force_terminal=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@case(
    "Configs and secrets",
    "ids, captions and rewrites with control characters (clear the screen, a bell, reversed text)",
    "printed as escape sequences by every verb",
)
def test_ids_captions_and_rewrites_are_escaped_when_they_are_inspected() -> None:
    shown = [ShownDraw("cleaned", "accepted", HOSTILE, f"{HOSTILE}\nsecond line", HOSTILE)]
    counts = Statistics(1, 1)
    inspection = Inspection({"cleaned": counts}, {"cleaned": 1}, shown, 1, {f"cleaned/{HOSTILE}": 1}, [HOSTILE])
    to = console()
    print_inspection(to, inspection)
    text = printed(to)
    assert text.count(ESCAPED) == 5
    assert f"    {ESCAPED}\\nsecond line\n" in text
    assert not {*"\x1b\x07\r\u202e"} & {*text}


def test_examples_of_reasons_are_escaped() -> None:
    counts = Statistics(1, 0, unfilled=Counter(empty=1), rejected=Counter(empty=1), named={"empty": [HOSTILE]})
    to = console()
    print_rewriting(to, RewritingResult({"cleaned": counts}), "out")
    assert f"cleaned: rejected empty 1 ({ESCAPED})" in printed(to)
    assert not {*"\x1b\x07\r\u202e"} & {*printed(to)}


def test_names_of_exported_shards_are_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options.console, "quiet", False)  # an earlier command of this process may have been quiet
    rewrites._print_exported(ExportResult("out", {}, not_committed=[HOSTILE]))
    assert ESCAPED in capsys.readouterr().out
