"""Export of accepted rewrites in formats that other tools read: one Parquet file, line-aligned texts, WebDataset tars.

Guarantees: an uncommitted shard, or one whose rows have changed, stops an export unless it is partial. An export
never overwrites a file, and each of its files appears whole (`export_files`).

Memory: one shard.

Not covered: continuing an interrupted export.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from laclip_ray import storage
from laclip_ray.config import DataConfig, Experiment, ExportTarget
from laclip_ray.data.dataset_index import beside
from laclip_ray.data.records import Sample, Shard
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.data.text_choice import renamed_samples
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.ownership import check_empty
from laclip_ray.rewriting.storing.committed import Committed
from laclip_ray.rewriting.storing.matching import explain, is_made_of, is_of, of_present_shards
from laclip_ray.rewriting.storing.sets import SetSelection, describe_sets, readable_sets
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.transfer.export_files import (
    ID_COLUMNS,
    ExportResult,
    RewrittenShard,
    write_parquet,
    write_text,
    write_webdataset,
)
from laclip_ray.tally import first_names

WRITERS: dict[ExportTarget, Callable[[str, Iterator[RewrittenShard], Mapping[str, int], ExportResult], None]] = {
    "parquet": write_parquet,
    "text": write_text,
    "webdataset": write_webdataset,
}
"""Each takes the output, the shards, the slots of each set, and the result to add to."""


@dataclass(frozen=True)
class _Source:
    """The data and the rewrite sets to export."""

    data: DataConfig
    sets: tuple[RewriteSet, ...]
    committed: dict[str, dict[str, Committed]]
    """By set and shard."""

    @property
    def slots(self) -> dict[str, int]:
        """The largest number of rewrites per sample in each set."""
        return {
            name: max((shard.origin.rewrites_per_set for shard in committed.values()), default=1)
            for name, committed in self.committed.items()
        }

    def not_committed(self, shards: Sequence[Shard]) -> list[str]:
        """The shards that some set has not committed."""
        return [
            shard.name for shard in shards if any(shard.name not in committed for committed in self.committed.values())
        ]

    def changed(self, shards: Sequence[Shard]) -> dict[str, str]:
        """The shards that have other captions than when they were rewritten, with reasons."""
        changed = {}
        for shard in shards:
            if all(is_made_of(committed[shard.name], shard, self.data) for committed in self.committed.values()):
                continue
            samples = list(read_samples(shard, self.data, with_images=False))
            if not self._is_of(shard.name, samples):
                changed[shard.name] = self.explain(shard)
        return changed

    def explain(self, shard: Shard) -> str:
        """Why a shard's captions have changed."""
        return "; ".join(
            dict.fromkeys(explain(committed[shard.name], shard, self.data) for committed in self.committed.values())
        )

    def _is_of(self, shard_name: str, samples: Sequence[Sample]) -> bool:
        """Whether every set rewrote these captions of a shard."""
        return all(
            is_of(rewrite_set, self.committed[rewrite_set.name][shard_name], shard_name, samples)
            for rewrite_set in self.sets
        )

    def read(self, shards: Sequence[Shard], result: ExportResult, partial: bool) -> Iterator[RewrittenShard]:
        """Each shard with its rewrites; counts them in `result`.

        Raises:
            IncompleteError: the rows of a shard have changed although its file looks the same, and not `partial`.
        """
        for shard in shards:
            samples = list(read_samples(shard, self.data, with_images=False))
            if not self._is_of(shard.name, samples) and shard.name not in result.changed:
                result.changed.append(shard.name)
                if not partial:
                    raise _changed_error({shard.name: self.explain(shard)})
            keys = [(sample.id, sample.caption_hash) for sample in samples]
            rewrites: dict[str, list[list[str]]] = {}
            unknown = set(keys)
            for rewrite_set in self.sets:
                accepted = rewrite_set.accepted(shard.name) or {}
                renamed = renamed_samples([*accepted], keys)
                accepted = {renamed.get(key, key): texts for key, texts in accepted.items()}
                unknown.difference_update(accepted)
                rewrites[rewrite_set.name] = [accepted.get(key, []) for key in keys]
                result.sets[rewrite_set.name] += sum(map(len, rewrites[rewrite_set.name]))
            result.changed_samples += len(unknown)
            result.shards += 1
            result.samples += len(samples)
            result.samples_without += sum(not any(texts) for texts in zip(*rewrites.values(), strict=True))
            yield RewrittenShard(shard.name, shard.url, samples, rewrites)


def export_rewrites(experiment: Experiment, output: str, target: ExportTarget, partial: bool = False) -> ExportResult:
    """Write the accepted rewrites of an experiment's sets beside their captions.

    Args:
        experiment: says which data and which sets (`text.rewrites`, else the sets of `rewrite.prompt_sets`).
        output: the file (`parquet`) or directory to make; local or any fsspec URL.
        target: `parquet` (one file, a row per sample, a list column per set), `text` (input of `import_rewrites`), or
            `webdataset` (the data's tars, with the texts in each sample's json member).
        partial: leave out shards that some set has not committed, and export the matching samples of changed shards.

    Raises:
        UserError: the output exists, a set does not, or the target does not fit the data.
        IncompleteError: shards are not committed, or have changed, and `partial` is not set.
    """
    sets = readable_sets(SetSelection.of(experiment))
    _check_target(sets, output, target)
    shards = list_shards(experiment.data, index=beside(experiment.output))
    if target == "webdataset" and shards[0].format != "webdataset":
        raise UserError(f"data.path: a WebDataset is made from WebDataset tars only, not from {shards[0].format}")
    if target == "webdataset" and experiment.data.captions == "all":
        raise UserError("data.captions: all gives an image several rows, a WebDataset only one; export Parquet or text")
    committed = {
        name: of_present_shards(described, [shard.name for shard in shards])
        for name, described in describe_sets(sets).items()
    }
    source = _Source(experiment.data, sets, committed)
    result = ExportResult(output, dict.fromkeys(committed, 0), not_committed=source.not_committed(shards))
    if result.not_committed and not partial:
        raise IncompleteError(
            f"{len(result.not_committed)} of {len(shards)} shards are not committed by every set "
            f"({first_names(result.not_committed)}); finish with `laclip rewrite` (for imported texts `laclip rewrites "
            "import`), or leave them out with --partial"
        )
    left_out = set(result.not_committed)
    exported = [shard for shard in shards if shard.name not in left_out]
    changed = source.changed(exported)
    result.changed = [*changed]
    if changed and not partial:
        raise _changed_error(changed)
    WRITERS[target](output, source.read(exported, result, partial), source.slots, result)
    return result


def _check_target(sets: Sequence[RewriteSet], output: str, target: ExportTarget) -> None:
    check_empty(output)
    if target == "parquet":
        if storage.is_directory(output):
            raise UserError(f"{output} is a directory; one Parquet file is written, give its name")
        if taken := [rewrite_set.name for rewrite_set in sets if rewrite_set.name in ID_COLUMNS]:
            raise UserError(f"a set named {taken[0]!r} cannot be a column beside {', '.join(ID_COLUMNS)}")


def _changed_error(changed: Mapping[str, str]) -> IncompleteError:
    reasons = "; ".join(dict.fromkeys(changed.values()))
    return IncompleteError(
        f"the captions of {len(changed)} shards have changed since they were rewritten ({first_names(changed)}): "
        f"{reasons}. Set this back, or run `laclip rewrite` with this config, which rewrites the new captions (for "
        "imported texts `laclip rewrites import`); --partial exports the rows that still match"
    )
