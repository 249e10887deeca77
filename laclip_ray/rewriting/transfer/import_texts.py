"""Import of line-aligned text files (`line_files`) as rewrite sets, judged by the experiment's gate.

Guarantees: the counts of lines are checked before anything is written. A line is imported only for a sample that it
belongs to (`line_index`); lines and samples without a counterpart are counted and named, and samples with several. The
same command continues an interrupted import. Importing a text export again gives equal accepted rewrites.

Memory: the index of the captions (37 bytes a row, 70 while it is built), 8 bytes per line of each text file, and one
shard of the data: 10 million rows with four files take 0.7 GB, and 1 GB at the peak. Text files are mapped; remote ones
are first copied to a temporary directory.
"""

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from laclip_ray import lease, storage
from laclip_ray.config import DataConfig, Experiment, GateConfig, ImportJoin
from laclip_ray.data.dataset_index import beside
from laclip_ray.data.reading import reading_of
from laclip_ray.data.records import NO_CAPTION, Sample, Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.tokens import count_tokens, tokenizer_spec
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.models.hub import check_encoder
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.prompting.prompts import prompt_texts
from laclip_ray.rewriting.recipe import gate_fingerprint
from laclip_ray.rewriting.scoring.meaning_pool import local_meaning_gate
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate, judge_by_meaning, read_scored_draws
from laclip_ray.rewriting.storing import store
from laclip_ray.rewriting.storing.committed import digest_samples
from laclip_ray.rewriting.storing.recipe_file import check_location
from laclip_ray.rewriting.storing.statistics import Statistics
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import SCORED_DRAWS_SCHEMA, Origin, with_columns_of
from laclip_ray.rewriting.transfer.captions_table import CaptionsTable, CsvTable, PlainCaptions
from laclip_ray.rewriting.transfer.line_files import Lines, group_files, open_lines
from laclip_ray.rewriting.transfer.line_index import Keys, LineIndex
from laclip_ray.tally import first_names

OUTPUT_SETTING = "rewrite.output"


@dataclass
class ImportResult:
    """How an import ended."""

    locations: dict[str, str]
    """The location of each set."""
    lines: int
    """Lines of each text file."""
    statistics: dict[str, Statistics] = field(default_factory=dict)
    """By set, over the shards of the data."""
    commits: int = 0
    """Shards times sets committed by this import."""
    commits_before: int = 0
    """Shards times sets committed by an earlier import."""
    unused_lines: int = 0
    """Lines that belong to no sample."""
    unused_names: list[str] = field(default_factory=list)
    """The ids of the first few unused lines."""
    ambiguous_samples: int = 0
    """Samples that several lines belong to equally; each took the next of them."""
    ambiguous_names: list[str] = field(default_factory=list)
    """The ids of the first few of them."""


@dataclass(frozen=True)
class CaptionsFile:
    """The file of captions that the text files rewrite, and how its rows join samples."""

    url: str
    """A CSV (TSV by its extension) of ids and captions."""
    join: ImportJoin = "id"
    header: bool = False
    """Whether the first row names the columns."""
    id_field: int = 1
    """Number of the field with the ids, from 1. For WebDataset keys, an image's extension is removed from them."""
    caption_field: int = 2
    """Number of the field with the captions, from 1."""
    captions_only: bool = False
    """The file has only a caption on each line; needs `join: caption`."""

    def open(self) -> CaptionsTable:
        """Open the file.

        Raises:
            UserError: there is no such file, or it has no such fields, or the join needs ids that it does not have.
        """
        if not self.captions_only:
            return CsvTable.open(self.url, self.header, self.id_field, self.caption_field)
        if self.join != "caption":
            raise UserError(f"--captions-only: {self.url} has no ids then, so say --join caption too")
        return PlainCaptions.open(self.url, self.header)


def import_rewrites(
    experiment: Experiment, captions: str | CaptionsFile, texts: Sequence[str], names: Sequence[str] = ()
) -> ImportResult:
    """Make rewrite sets from line-aligned text files, and judge them by the experiment's gate.

    Args:
        experiment: says where the samples are and where the sets go (one directory each below `rewrite.output`).
        captions: the captions that the files rewrite. A plain name is a CSV of ids and captions, joined by id.
        texts: the text files. Each makes a set; `NAME.0.txt`, `NAME.1.txt` make one with several rewrites per caption.
        names: names of the sets, in the order of the files. Empty: the files' names without their extension.

    Raises:
        UserError: a file is missing, counts differ, a set's directory holds something else, or no line belongs to a
            sample. No file was written.
        IncompleteError: a shard could not be read; all others are committed.
    """
    captions = CaptionsFile(captions) if isinstance(captions, str) else captions
    files = group_files(texts, names)
    shards = list_shards(experiment.data, index=beside(experiment.output))
    gate = experiment.rewrite.gate
    if gate.picture is not None:
        raise UserError(
            "rewrite.gate.picture: an import does not look at pictures; import with rewrite.gate.picture=null"
        )
    if gate.meaning is not None:
        check_encoder(gate.meaning)
    has_tar_keys = shards[0].format == "webdataset" and experiment.data.id_column is None
    table = captions.open()
    with contextlib.ExitStack() as stack:
        opened = {name: [stack.enter_context(open_lines(url)) for url in urls] for name, urls in files.items()}
        line_counts = {lines.url: len(lines) for group in opened.values() for lines in group}
        index = LineIndex.build(table, line_counts, Keys(captions.join, strip_extension=has_tar_keys))
        storage.check_output(experiment.rewrite_output, OUTPUT_SETTING, False, 1, [])
        stack.enter_context(lease.hold(experiment.rewrite_output, OUTPUT_SETTING, "rewrites import"))
        judge, meaning = _build_gate(gate, experiment.model.name), local_meaning_gate(gate.meaning)
        sets = []
        for name, group in opened.items():
            location, recipe = storage.join(experiment.rewrite_output, name), _recipe(table, group, captions.join)
            check_location(location, recipe, OUTPUT_SETTING)
            rewrite_set = RewriteSet(location, gate_fingerprint(gate, experiment.model.name))
            sets.append(_ImportedSet(rewrite_set, recipe, group, experiment.data, judge, meaning))
        rewrite_sets = [imported.rewrite_set for imported in sets]
        locations = {rewrite_set.name: rewrite_set.location for rewrite_set in rewrite_sets}
        result = ImportResult(locations, len(index))
        _import_shards(experiment.data, shards, index, sets, result)
        result.ambiguous_samples, result.ambiguous_names = index.ambiguous_samples, index.ambiguous_names
    result.unused_lines = int((~index.used).sum())
    if result.unused_lines:
        result.unused_names = index.unused_names(table)
    return result


def _recipe(table: CaptionsTable, files: Sequence[Lines], join: ImportJoin) -> dict[str, Any]:
    digests = "".join([table.digest, *(lines.digest for lines in files)])
    return {
        "imported_from": [storage.name_of(lines.url) for lines in files],
        "captions": storage.name_of(table.url),
        "lines": len(files[0]),
        "digest": hashlib.sha256(digests.encode()).hexdigest(),
        **({"join": join} if join != "id" else {}),  # earlier versions knew only this join
    }


def _build_gate(config: GateConfig, clip_model: str) -> Gate:
    """The gate of imported texts. Their prompts are unknown: it compares with no example pairs, and with the
    instruction that the paper's authors used."""
    count = functools.partial(count_tokens, tokenizer_spec(clip_model))
    return Gate(config, ((),), count, prompt_texts("completion", "reference"))


def _import_shards(
    data: DataConfig, shards: Sequence[Shard], index: LineIndex, sets: "Sequence[_ImportedSet]", result: ImportResult
) -> None:
    """Commit every shard for every set.

    Shards without any line are committed last, and only if another shard shows that the files belong to this data.
    """
    failures: dict[str, str] = {}

    def read(shard: Shard) -> list[Sample]:
        try:
            return list(read_samples(shard, data, with_images=False))
        except (OSError, ValueError) as error:
            failures[shard.name] = str(error)
            return []

    def commit(shard: Shard, samples: Sequence[Sample], lines: Sequence[int | str]) -> None:
        for imported in sets:
            was_committed, statistics = imported.commit(shard, samples, lines)
            result.commits_before += was_committed
            result.commits += not was_committed
            result.statistics.setdefault(imported.rewrite_set.name, Statistics()).add(statistics)

    without_lines: list[Shard] = []
    first_sample: Sample | None = None
    for shard in shards:
        samples = read(shard)
        lines = index.find(samples)
        if any(isinstance(line, int) for line in lines):
            commit(shard, samples, lines)
        elif shard.name not in failures:
            without_lines.append(shard)
            first_sample = first_sample or next(iter(samples), None)
    if without_lines and not index.used.any():
        raise UserError(index.explain_no_match(first_sample))
    for shard in without_lines:
        samples = read(shard)
        commit(shard, samples, index.find(samples))
    if failures:
        reasons = first_names((f"{name}: {reason}" for name, reason in failures.items()), separator="; ")
        raise IncompleteError(
            f"{len(failures)} shards could not be read, all others are committed: {reasons}; mend or remove them, and "
            "import again"
        )


class _ImportedSet:
    """A set under import."""

    def __init__(
        self,
        rewrite_set: RewriteSet,
        recipe: Mapping[str, Any],
        files: Sequence[Lines],
        data: DataConfig,
        gate: Gate,
        meaning: MeaningGate | None,
    ) -> None:
        self.rewrite_set = rewrite_set
        self._recipe = recipe
        self._files = files
        self._data = data
        self._gate, self._meaning = gate, meaning
        self._is_claimed = False
        self._drawn_revisions = self.rewrite_set.drawn_revisions()
        self._next_revision = max(self._drawn_revisions.values(), default=-1) + 1

    def commit(self, shard: Shard, samples: Sequence[Sample], lines: Sequence[int | str]) -> tuple[bool, Statistics]:
        """Commit a shard unless it is committed from the same samples.

        Args:
            shard: the shard.
            samples: its samples.
            lines: for each sample the number of its line, or why it has no line.

        Returns:
            Whether it was committed before, and its counts.
        """
        rewrite_set, name = self.rewrite_set, shard.name
        inputs = digest_samples(samples)
        revision = store.of_shards(self._drawn_revisions, [name]).get(name)
        if revision is not None and (origin := rewrite_set.origin(name, revision)).inputs == inputs:
            with contextlib.suppress(FileNotFoundError):
                return True, rewrite_set.describe({name: revision})[name].statistics
            draws = read_scored_draws(rewrite_set, name, revision, self._meaning)
        else:
            self._claim()
            # A shard whose rows changed goes to a newer revision: readers keep the old one.
            revision = 0 if revision is None else self._next_revision
            origin = Origin(shard.file_identity, inputs, len(self._files), reading=reading_of(shard, self._data))
            draws = pa.Table.from_pylist(list(self._draws(samples, lines)), schema=tables.DRAWS_SCHEMA)
            store.write_draws(rewrite_set, name, revision, draws, origin)
        verdicts = judge_by_meaning(with_columns_of(draws, SCORED_DRAWS_SCHEMA), self._gate, self._meaning)
        statistics = store.commit_verdicts(
            *(rewrite_set, name, revision, draws, verdicts.reasons, origin),
            scores=verdicts.scores,
            scorers=verdicts.scorers,
        )
        return False, statistics

    def _claim(self) -> None:
        if not self._is_claimed:
            store.open_for_writing(self.rewrite_set.location, self._recipe, self.rewrite_set.gate, OUTPUT_SETTING)
            self._is_claimed = True

    def _draws(self, samples: Sequence[Sample], lines: Sequence[int | str]) -> Iterator[dict[str, Any]]:
        for sample, line in zip(samples, lines, strict=True):
            unusable = NO_CAPTION.intersection(sample.problems)
            texts: list[str | None] = [None]
            if isinstance(line, int) and not unusable:
                texts = [file[line] for file in self._files]
            for slot, text in enumerate(texts):
                yield {
                    "id": sample.id,
                    "caption_hash": sample.caption_hash,
                    "caption": sample.caption,
                    "problems": ",".join(sample.problems),
                    "draw": slot,
                    "attempt": 0,
                    "head": None,
                    "outcome": tables.DRAWN if text is not None else min(unusable) if unusable else line,
                    "text": text,
                    "truncated": False,
                    **dict.fromkeys(tables.TOKENS, 0),
                }
