"""The commands that come next: a shell reads them back as the user's own words, and the command line takes them."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.cli import next_steps
from laclip_ray.cli.app import app
from laclip_ray.cli.next_steps import Given, Step

TEXTS = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1)


@given(TEXTS, st.lists(TEXTS))
def test_a_shell_reads_back_the_words_of_the_user(config: str, overrides: list[str]) -> None:
    command = Given(config, overrides).command("rewrites inspect", "--reason", "refusal")
    assert shlex.split(command) == ["laclip", "rewrites", "inspect", config, *overrides, "--reason", "refusal"]


GIVEN = Given("my pictures.yaml", ["train.epochs=3", "text.p=[0, 1]"])


def all_steps() -> Iterator[Step]:
    for trains in (True, False):
        yield from next_steps.after_init(GIVEN)
        yield from next_steps.after_check(GIVEN)
        yield from next_steps.after_preview(GIVEN, trains)
        yield from next_steps.after_estimate(GIVEN)
        yield from next_steps.after_plan(GIVEN)
        yield from next_steps.after_doctor(GIVEN)
        yield from next_steps.after_probe(GIVEN, ["rewrite.engine.cpu_threads=2"])
        yield from next_steps.after_rewrite(GIVEN, trains)
        yield from next_steps.after_train(GIVEN, "/runs/a", trains)
        yield from next_steps.after_evaluate(GIVEN, "/runs/a", "/runs/a/evaluate")
        yield from next_steps.after_tune(GIVEN, "/runs/a/best.yaml", "/runs/a/best/train", "/runs/a/tune")
        yield from next_steps.after_demo(["demo-output/p0-seed0", "demo-output/p0.8-seed0"])
        yield from next_steps.after_model("imported")
        yield from next_steps.after_submit(["laclip", "submit", "train", "a.yaml"], "http://head:8265", "job-1")


@pytest.mark.parametrize("step", {step.command: step for step in all_steps()}.values(), ids=lambda step: step.command)
def test_the_command_line_takes_every_command(step: Step) -> None:
    program, *words = shlex.split(step.command)
    if program != "laclip":
        assert words[:2] in (["job", "status"], ["job", "stop"])
        return
    command: Any = typer.main.get_command(app)
    context: Any = None
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
        context = command.make_context(name, list(words), parent=context) if not hasattr(command, "commands") else None
    assert context.params


@pytest.mark.parametrize(
    ("overrides", "run"),
    [(["train.epochs=3"], "a.yaml"), (["output=/runs/b"], "/runs/b"), (["train.output=x"], "/runs/b")],
)
def test_the_report_is_about_the_output_that_overrides_name(overrides: list[str], run: str) -> None:
    assert Given("a.yaml", overrides).report("/runs/b").command == f"laclip report {run}"


def test_captions_without_pictures_are_exported_and_not_trained_on() -> None:
    commands = [step.command for step in next_steps.after_rewrite(Given("a.yaml", ["seed=1"]), trains=False)]
    assert commands == [
        "laclip rewrites inspect a.yaml seed=1",
        "laclip rewrites export a.yaml rewrites.parquet seed=1 --to parquet",
    ]


def test_without_sets_to_measure_on_no_evaluation_is_proposed() -> None:
    assert [step.command for step in next_steps.after_train(Given("a.yaml"), "/runs/a", evaluates=False)] == [
        "laclip report a.yaml"
    ]
