"""The findings of a look, in a few lines. Texts from data have their control characters escaped."""

from collections.abc import Iterator

from laclip_ray.printable import printable_line
from laclip_ray.survey.captions import SHORT_WORDS
from laclip_ray.survey.columns import Choice, Kind
from laclip_ray.survey.facts import Facts
from laclip_ray.tally import first_names

_FORMATS = {"webdataset": "WebDataset tars", "parquet": "Parquet", "csv": "CSV", "tsv": "TSV", "jsonl": "JSON lines"}


def describe(facts: Facts) -> Iterator[str]:
    """The lines."""
    for line in _lines(facts):
        yield printable_line(line)


def _lines(facts: Facts) -> Iterator[str]:
    size = "" if facts.size_bytes is None else f", {_bytes(facts.size_bytes)}"
    yield f"format    {_FORMATS[facts.format]}: {_count(facts.files, 'file')}{size}, {_count(facts.shards, 'shard')}"
    yield f"samples   {facts.rows.describe()}"
    yield f"captions  {_choice(facts.caption)}"
    captions = facts.sampled.captions
    scripts = ", ".join(f"{name.lower()} {count / captions.captions:.0%}"
                        for name, count in captions.scripts.most_common(3))  # fmt: skip
    yield (
        f"          of {captions.captions:,}: {captions.median_words:g} words (median), {captions.short_share:.0%} "
        f"under {SHORT_WORDS} words, {captions.repeated_share:.0%} repeated; script: {scripts}"
    )
    yield f"pictures  {_pictures(facts)}"
    if facts.evaluated is not None:
        yield f"splits    train is trained on; {facts.evaluated.name} is measured: {facts.evaluated.rows.describe()}"
    if facts.id is not None:
        yield f"ids       {facts.id.name!r}: {facts.id.reason}"
    for reason, count in facts.sampled.problems.counts.most_common():
        yield f"counted   {reason} {count:,} ({first_names(facts.sampled.problems.names[reason], 3)})"
    for note in facts.notes:
        yield f"note      {note}"


def _choice(choice: Choice) -> str:
    others = f" (others: {first_names(map(repr, choice.alternatives))})" if choice.alternatives else ""
    return f"{choice.name!r}: {choice.reason}{others}"


def _pictures(facts: Facts) -> str:
    if facts.image is None:
        return "none: the captions can be rewritten, and no model trained on them"
    if facts.image.kind is Kind.URLS:
        return f"{_choice(facts.image)}; not fetched now (`laclip data check` fetches some)"
    sizes = facts.sampled.pictures.to_json()
    if not sizes:
        return f"{_choice(facts.image)}; none of those looked at can be decoded"
    return (
        f"{_choice(facts.image)}; of {sizes['pictures']}: {sizes['median_width']} x {sizes['median_height']} pixels "
        f"(median), {sizes['share_under_224']:.0%} under 224"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _bytes(size: int) -> str:
    power = min((len(str(size)) - 1) // 3, 4)
    return f"{size / 1_000**power:.3g} {('bytes', 'KB', 'MB', 'GB', 'TB')[power]}"
