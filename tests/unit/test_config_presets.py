"""A preset gives values to the keys that are not written, and the values are what a run prints and records."""

from typing import Any

import pytest

from laclip_ray.config import Experiment, GateConfig, parse_experiment, to_yaml
from laclip_ray.config.yaml_text import parse_yaml
from laclip_ray.errors import UserError
from laclip_ray.rewriting.recipe import gate_fingerprint


def experiment(overrides: tuple[str, ...] = (), **rewrite: Any) -> Experiment:
    return parse_experiment({"name": "a", "output": "out", "data": {"path": "data"}, "rewrite": rewrite}, overrides)


PAPER = experiment(preset="paper").rewrite


def test_the_papers_values_are_those_of_the_authors_code() -> None:
    assert (PAPER.mode, PAPER.template, PAPER.completions) == ("completion", "reference", "reference")
    assert PAPER.sampling.model_dump() == {"temperature": 0.9, "top_p": 0.95, "max_tokens": 77}
    assert (len(PAPER.prompt_sets), PAPER.rewrites_per_set, PAPER.redraws) == (4, 1, 0)
    assert (PAPER.heads, PAPER.head_choice) == (16 * 15 * 14, "any")


def test_the_papers_gate_counts_two_words_and_checks_nothing_else() -> None:
    gate = PAPER.gate.model_dump()
    assert (gate.pop("preset"), gate.pop("min_words"), gate.pop("word_count")) == ("paper", 2, "spaces")
    assert not any(gate.values())


def test_a_preset_of_the_gate_alone_changes_only_the_gate_and_what_it_sees() -> None:
    rewrite = experiment(gate={"preset": "paper"}).rewrite
    assert rewrite.gate == PAPER.gate
    changed = {
        name
        for name, value in rewrite.model_dump().items()
        if value != experiment().rewrite.model_dump()[name]
    }  # fmt: skip
    assert changed == {"gate", "redraws", "completions"}


@pytest.mark.parametrize(
    ("written", "key", "value"),
    [
        ({"heads": 32}, "heads", 32),
        ({"redraws": 3}, "redraws", 3),
        ({"completions": "normalised"}, "completions", "normalised"),
        ({"gate": {"preset": None}}, "gate", GateConfig().model_dump()),
    ],
)
def test_a_value_that_is_written_wins(written: dict[str, Any], key: str, value: object) -> None:
    assert experiment(preset="paper", **written).rewrite.model_dump()[key] == value
    overrides = tuple(f"rewrite.{name}={text}" for name, text in written.items() if not isinstance(text, dict))
    if overrides:
        assert experiment(("rewrite.preset=paper", *overrides)).rewrite.model_dump()[key] == value


def test_a_written_value_of_a_section_leaves_the_preset_the_others() -> None:
    rewrite = experiment(preset="paper", sampling={"temperature": 0.5}, gate={"drop_copies": True}).rewrite
    assert rewrite.sampling == PAPER.sampling.model_copy(update={"temperature": 0.5})
    assert rewrite.gate == PAPER.gate.model_copy(update={"drop_copies": True})


def test_the_printed_configuration_holds_the_values_and_gives_the_same_experiment() -> None:
    loaded = experiment(preset="paper")
    printed = parse_yaml(to_yaml(loaded))
    assert isinstance(printed, dict)
    assert printed["rewrite"]["gate"]["drop_copies"] is False
    assert parse_experiment(printed) == loaded


def test_a_preset_has_the_fingerprint_of_its_values() -> None:
    values = {**PAPER.gate.model_dump(), "preset": None}
    assert gate_fingerprint(GateConfig(**values), "ViT-B-32") == gate_fingerprint(PAPER.gate, "ViT-B-32")


@pytest.mark.parametrize(
    ("rewrite", "message"),
    [
        ({"preset": "papr"}, r"rewrite\.preset: input should be 'paper', got 'papr'"),
        ({"gate": {"preset": 1}}, r"rewrite\.gate\.preset: input should be 'paper', got 1"),
        ({"preset": "paper", "mode": "chat"}, "mode: chat does not use them; leave out mode, or the preset"),
        ({"preset": "paper", "gate": 3}, r"rewrite\.gate: input should be a valid dictionary"),
        ({"preset": ["paper"]}, r"rewrite\.preset: input should be 'paper'"),
    ],
)
def test_an_unknown_preset_and_a_contradiction_are_refused(rewrite: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment(**rewrite)
