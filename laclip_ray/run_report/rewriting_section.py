"""Rewriting in a report: outcomes by set and reason, scores, vocabulary, the gallery. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from laclip_ray.reporting import plots
from laclip_ray.reporting.gallery import Gallery
from laclip_ray.reporting.page import MISSING, Plot, Section, Table
from laclip_ray.reporting.report import RewritingSummary, gallery_section, rewriting_tables
from laclip_ray.rewriting.tables import LOG_PROBABILITY
from laclip_ray.run_report.facts import RewritingFacts, RunFacts, SetFacts
from laclip_ray.run_report.vocabulary import Vocabulary

_SCORES = {
    "meaning": "meaning: similarity to the caption (higher is better)",
    "added": "added: how far added words are from the caption (lower is better)",
    "picture": "picture: similarity to the picture (higher is better)",
    "caption_picture": "similarity of caption and picture",
    LOG_PROBABILITY: "log p: mean log-probability of the tokens (higher is better)",
}


def rewriting_sections(runs: Sequence[RunFacts]) -> list[Section]:
    """The gallery, the counts, the scores and the vocabulary of all runs; runs with the same sets share them."""
    found = _distinct(runs)
    is_one = len(found) == 1
    samples = [
        sample if is_one else replace(sample, run=name) for name, each in found.items() for sample in each.samples
    ]
    notes = [note if is_one else f"{name}: {note}" for name, each in found.items() for note in each.notes]
    gallery = replace(gallery_section(Gallery.of(samples)), notes=notes if samples else ())
    sections = [gallery]
    for number, (name, each) in enumerate(found.items()):
        end = "" if is_one else f"-{number + 1}"
        of = "" if is_one else f" of {name}"
        sections.append(
            Section(f"rewriting{end}", f"Rewriting{of}", tables=rewriting_tables(_summaries(each)), notes=_notes(each))
        )
        sections.append(_scores(each, f"scores{end}", f"Scores{of}"))
        sections.append(_vocabulary(each, f"vocabulary{end}", f"Vocabulary{of}"))
    return sections


def _distinct(runs: Sequence[RunFacts]) -> dict[str, RewritingFacts]:
    """By the names of the runs that read them, the rewrites, each set of them once."""
    by_sets: dict[tuple[str, ...], list[RunFacts]] = {}
    for run in runs:
        if run.rewriting is not None:
            by_sets.setdefault(tuple(sorted(each.location for each in run.rewriting.sets)), []).append(run)
    return {
        ", ".join(run.name for run in of_sets): of_sets[0].rewriting
        for of_sets in by_sets.values()
        if of_sets[0].rewriting is not None
    }


def _summaries(facts: RewritingFacts) -> list[RewritingSummary]:
    return [
        RewritingSummary(
            each.name,
            each.statistics.captions,
            each.statistics.accepted,
            each.statistics.captions_without_rewrite,
            each.statistics.rejected,
            each.statistics.problems,
        )
        for each in facts.sets
    ]


def _notes(facts: RewritingFacts) -> list[str]:
    reused = sum(each.statistics.reused for each in facts.sets)
    notes = ["Refused rewrites count every draw, also one that was drawn again and then accepted."]
    if reused:
        notes.append(f"{reused:,} captions have the rewrites of an equal caption.")
    return notes


def _scores(facts: RewritingFacts, id: str, title: str) -> Section:
    drawn = [
        Plot(plots.histograms(name.partition(":")[0].capitalize(), name, groups))
        for score, name in _SCORES.items()
        if (groups := {group: values for group, values in facts.scores.get(score, {}).items() if values})
    ]
    names = [score for score in _SCORES if any(score in ranges for ranges in facts.ranges.values())]
    rows = tuple(
        (f"{set_name}, {score.replace('_', ' ')}", *(f"{value:.3f}" for value in ranges[score]))
        for set_name, ranges in facts.ranges.items()
        for score in names
        if score in ranges
    )
    table = Table(
        "Scores of accepted rewrites", ("set, score", "lowest tenth below", "median", "highest tenth above"), rows
    )
    about = f"From the first rows of {facts.shards_read:,} shards (of all sets)."
    return Section(id, title, [about] if drawn else (), plots=drawn, tables=[table] if rows else ())


def _vocabulary(facts: RewritingFacts, id: str, title: str) -> Section:
    vocabularies = {name: each for name, each in facts.vocabulary.items() if each.words}
    if not vocabularies:
        return Section(id, title)
    growth = plots.lines(
        "Vocabulary growth",
        "words",
        {name: each.growth for name, each in vocabularies.items()},
        y_label="distinct words",
    )
    common = min(each.words for each in vocabularies.values())
    table = Table(
        "Vocabulary of captions and of accepted rewrites",
        ("texts of", "texts", "words a text", "words", "distinct words", f"distinct in {common:,} words",
         "distinct pairs of neighbours"),
        tuple((name, *_row(each, common)) for name, each in vocabularies.items()),
    )  # fmt: skip
    about = (
        "Distinct words against words read, of the captions and of the accepted rewrites of each set. A steeper line "
        "is a richer vocabulary; compare lines at the same number of words."
    )
    return Section(id, title, [about], plots=[Plot(growth)], tables=[table])


def _row(vocabulary: Vocabulary, common: int) -> tuple[str, ...]:
    return (
        f"{vocabulary.texts:,}",
        f"{vocabulary.words_per_text:.1f}",
        f"{vocabulary.words:,}",
        f"{vocabulary.distinct:,}",
        f"{vocabulary.distinct_at(common):,.0f}",
        f"{vocabulary.pair_diversity:.0%}" if vocabulary.pairs else MISSING,
    )


def accepted_sentence(sets: Sequence[SetFacts]) -> str:
    """How many rewrites of all sets were accepted; empty without any slot."""
    accepted = sum(each.statistics.accepted for each in sets)
    slots = accepted + sum(each.statistics.unfilled.total() for each in sets)
    return f"{accepted:,} of {slots:,} rewrites accepted ({accepted / slots:.1%})" if slots else ""
