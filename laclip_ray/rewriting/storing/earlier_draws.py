"""The earlier draws of a shard's samples: of the shard itself, and of shards that held its rows before.

Guarantees: a sample keeps its draws under a new id, and when its file is cut into other ranges. Of draws of one sample
in several shards, those of the first shard count.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from laclip_ray.data.text_choice import SampleKey, renamed_samples
from laclip_ray.rewriting.tables import WorkUnit


def read_earlier_draws(
    unit: WorkUnit, described: Mapping[str, list[Any]], read: Callable[[str, int], pa.Table]
) -> pa.Table | None:
    """The earlier draws that a unit adds to, under the present ids; None if it has none.

    Args:
        unit: names the revisions.
        described: the present samples in order, with the columns `id` and `caption_hash`.
        read: reads the draws of a shard's revision: a table of `DRAWS_SCHEMA`, perhaps with more columns.
    """
    parts = []
    if unit.previous is not None:
        parts.append(_under_present_ids(read(unit.shard, unit.previous), described))
    parts += [read(shard, revision) for shard, revision in unit.cut_from]
    known: set[SampleKey] = set()
    kept = []
    for part in parts:
        keys = _keys(part)
        kept.append(part.filter(pa.array([key not in known for key in keys], pa.bool_())))
        known.update(keys)
    return pa.concat_tables(kept) if kept else None


def _under_present_ids(draws: pa.Table, described: Mapping[str, list[Any]]) -> pa.Table:
    """A shard's draws under the ids that its samples have now (`renamed_samples`)."""
    keys = _keys(draws)
    present = list(zip(described["id"], described["caption_hash"], strict=True))
    if not (renamed := renamed_samples(list(dict.fromkeys(keys)), present)):
        return draws
    column = draws.column_names.index("id")
    present_ids = pa.array([renamed.get(key, key)[0] for key in keys], pa.string())
    return draws.set_column(column, draws.schema.field(column), present_ids)


def _keys(draws: pa.Table) -> list[SampleKey]:
    return list(zip(draws.column("id").to_pylist(), draws.column("caption_hash").to_pylist(), strict=True))
