"""Figures of the gate's verdicts against people's labels."""

import json
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from laclip_ray.config import GateConfig, MeaningGateConfig
from laclip_ray.rewriting.judging.calibration import read_labelled
from laclip_ray.rewriting.judging.text import words_of
from laclip_ray.rewriting.prompting.prompts import built_in_prompt_sets, load_prompt_set
from laclip_ray.rewriting.scoring.gate_quality import measure_gate
from tests.figures import gate
from tests.figures.figure import Figure
from tests.real_models import real_model

LABELS = Path(__file__).parents[1] / "data" / "labelled"
"""`calibration.jsonl` and `held_out.jsonl` are halves by caption; the defaults were chosen with both in view. The
files of the runs played no part, except that other rewrites of the second run chose the weight of `unlikely`."""
GIVEN = "LACLIP_LABELLED_REWRITES"
"""Environment variable: another file of labelled rewrites."""
LEAST_PRECISION, LEAST_RECALL = 0.90, 0.70
LEAST_FAITHFUL = 0.85
LEAST_DIVERSITY = 0.8
"""Of the diversity of people's pairs."""


def default_gate() -> GateConfig:
    """The default gate, with the encoder of the tests: the same model, as a directory."""
    return GateConfig(meaning=MeaningGateConfig(model=str(real_model("all-minilm-l6-v2"))))


def quality(show: int) -> Iterator[Figure]:
    """Precision and recall of the default gate, and of the checks of the text alone."""
    files = {"held out": LABELS / "held_out.jsonl", "calibration": LABELS / "calibration.jsonl"}
    if given := os.environ.get(GIVEN):
        files["given"] = Path(given)
    for name, path in files.items():
        rewrites = read_labelled(str(path))
        measured = measure_gate(rewrites, default_gate(), LEAST_PRECISION).rows
        for gate_name, row in measured.items():
            is_default = gate_name == "the whole gate, as configured"
            for what, proportion, bar in (
                ("precision", row.precision, LEAST_PRECISION),
                ("recall", row.recall, LEAST_RECALL),
            ):
                interval = f"{proportion.low:.2f} to {proportion.high:.2f}, {proportion.cases} of {proportion.of}"
                yield Figure(
                    show,
                    f"{what} on the {name} labels: {gate_name} ({interval})",
                    proportion.share or 0.0,
                    "",
                    at_least=bar if is_default and name != "calibration" else None,
                )


@dataclass(frozen=True)
class Diversity:
    """How far rewrites go from their captions."""

    new_words: float
    """Mean share of a rewrite's distinct words that its caption does not have."""
    distinct_words: float
    """Distinct words of all rewrites, over all their words."""

    @classmethod
    def of(cls, pairs: Sequence[tuple[str, str]]) -> "Diversity":
        """The diversity of (caption, rewrite) pairs."""
        words = [(set(words_of(caption)), words_of(rewrite)) for caption, rewrite in pairs]
        shares = [len(set(rewrite) - caption) / max(1, len(set(rewrite))) for caption, rewrite in words]
        everything = [word for _, rewrite in words for word in rewrite]
        return cls(statistics.mean(shares), len(set(everything)) / max(1, len(everything)))


def faithful_shares(show: int) -> Iterator[Figure]:
    """What a real model wrote, before and after: accepted, and faithful of the accepted, by people's labels."""
    for run in ("before", "after"):
        record = json.loads((LABELS / f"run_{run}.json").read_text())
        yield Figure(show, f"accepted share, {run} ({record['drawn']} slots)", record["accepted"] / record["drawn"], "")
        rewrites = read_labelled(str(LABELS / f"run_{run}.jsonl"))
        faithful = sum(rewrite.faithful for rewrite in rewrites) / len(rewrites)
        bar = LEAST_FAITHFUL if run == "after" else None
        yield Figure(show, f"faithful share of {len(rewrites)} accepted, {run}", faithful, "", at_least=bar)
        pairs = [(rewrite.caption, rewrite.rewrite) for rewrite in rewrites]
        yield from _against_people(show, run, pairs, bar=LEAST_DIVERSITY if run == "after" else None)


def _against_people(show: int, run: str, pairs: Sequence[tuple[str, str]], bar: float | None) -> Iterator[Figure]:
    """Diversity over that of the prompt sets' own pairs; the distinct words of as many words as those have."""
    people = [(pair.source, pair.target) for name in built_in_prompt_sets() for pair in load_prompt_set(name).pairs]
    few = pairs[: len(people)]
    own, theirs = Diversity.of(pairs), Diversity.of(people)
    yield Figure(show, f"share of new words over people's, {run}", own.new_words / theirs.new_words, "", at_least=bar)
    ratio = Diversity.of(few).distinct_words / theirs.distinct_words
    yield Figure(show, f"distinct words over people's, {run}", ratio, "", at_least=bar)


def defects(show: int) -> Iterator[Figure]:
    """Seeded defects and false refusals of the checks of the text (`docs/gate.md`)."""
    for figure in gate.figures():
        yield replace(figure, show=show)
