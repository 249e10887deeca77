"""The table has a row for each check, and nothing in it can write to the terminal."""

import io

from rich.console import Console

from laclip_ray.doctor.printing import print_results
from laclip_ray.doctor.results import Result


def printed(*results: Result) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_results(console, results)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_each_check_has_a_row_with_what_to_do() -> None:
    text = printed(
        Result("data", "passed", "6 files listed", ""), Result("ports", "failed", "none is free", "stop one")
    )
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if "│" in line]
    assert rows == [["data", "passed", "6 files listed", ""], ["ports", "failed", "none is free", "stop one"]]


def test_texts_are_printed_as_they_are_and_without_secrets() -> None:
    text = printed(Result("data", "failed", "[bold]s3://me:passphrase@host/\x1b[31m\nx", "a\tb"))
    assert "[bold]s3://***@host/\\x1b[31m\\nx" in text
    assert "a\\tb" in text
