"""Labelled sets as tables: Parquet files with images and a label column, as on the Hugging Face Hub, and CSV or TSV
files with image paths.

Splits are told by the names of files and directories (`table_splits`), or by a column `split`. Without either, all
files are the only split that is read. What image paths may name is limited as in training data (`data.image_sources`):
files below the table's directory, and URLs of public hosts.

Not covered: an image file that changes while its table does not. The table's identity stays the same.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from laclip_ray.config import DataConfig, Format, LabelledConfig
from laclip_ray.data import parquet, text_tables
from laclip_ray.data.data_files import DataFile, identity_of_file
from laclip_ray.data.file_formats import kind_of
from laclip_ray.data.records import Shard
from laclip_ray.data.shard_names import unique_names
from laclip_ray.data.table_rows import refuse_defects, split_rows
from laclip_ray.errors import UserError
from laclip_ray.evaluation.sets.class_labels import sorted_texts
from laclip_ray.evaluation.sets.records import LabelledShard, Layout, OpenedLayout, label_text
from laclip_ray.evaluation.sets.set_files import SetFiles, list_names
from laclip_ray.evaluation.sets.table_columns import (
    SPLIT_COLUMN,
    Columns,
    choose_columns,
    described_class_names,
    holds_lists,
    image_columns,
    is_label_type,
    path_columns,
)
from laclip_ray.evaluation.sets.table_reading import read_rows, split_of_row
from laclip_ray.evaluation.sets.table_splits import example_names, files_by_split
from laclip_ray.nearest import did_you_mean

_ROWS_OF_SHARD = 1_000
_MOST_ROWS_OF_SHARD = 10_000
"""A Parquet row group up to this size is not cut: each part of it would be read from the group's start."""

_FIRST_ROWS = 100
"""Rows of a CSV among which one without a problem is searched."""

_MOST_CLASSES = 100_000
_FOOTER_THREADS = 16

Shards = dict[str, list[LabelledShard]]
"""By split."""


@dataclass(frozen=True)
class _Table:
    """A file, described."""

    ranges: list[Shard]
    columns: Columns | None
    """None: no row can be read."""
    class_names: list[str] | None = None


def open_tables(config: LabelledConfig, files: SetFiles, layout: Layout) -> OpenedLayout:
    """The splits of a set, and its class names.

    Args:
        config: the set.
        files: the set's.
        layout: `parquet` or `csv`.

    Raises:
        UserError: a split has no rows, a column is missing, or every file is damaged.
    """
    named = unique_names(files.of_layout(layout), files.setting)
    if not named:
        kinds = "Parquet files" if layout == "parquet" else "CSV or TSV files"
        raise UserError(f"{files.where}: {files.path} holds no {kinds}; it holds {files.describe()}")
    is_file = all(file.is_named for file in named.values())
    of_split = {} if is_file else files_by_split(list(named), config.splits, f"{files.where}: {files.path}")
    chosen = sorted({name for names in of_split.values() for name in names} or named)
    describe = _describe_parquet if layout == "parquet" else _describe_csv
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        described = pool.map(lambda name: describe(named[name], name, config, files), chosen)
        tables = dict(zip(chosen, described, strict=True))
    if ranges := [shard for table in tables.values() for shard in table.ranges]:
        refuse_defects(ranges)
    is_by_column = not of_split and all(table.columns.split for table in tables.values() if table.columns)
    if not of_split and not is_by_column and len(config.splits) > 1:
        raise UserError(
            f"{files.where}: {files.path} does not tell the splits {', '.join(config.splits)}: no file is named by one "
            f"({example_names(config.split)}), and there is no column {SPLIT_COLUMN!r}"
        )
    shards = {
        split: [
            _to_labelled(each, tables[name].columns, layout, split if is_by_column else "")
            for name in of_split.get(split, chosen)
            for each in tables[name].ranges
        ]
        for split in config.splits
    }
    return _with_classes(config, shards, _class_names(tables, files), files)


def _describe_parquet(file: DataFile, name: str, config: LabelledConfig, files: SetFiles) -> _Table:
    shard = Shard(name, file.url, "parquet", file_identity=identity_of_file(file))
    footer = parquet.read_footer(file.url, files.setting)
    if isinstance(footer, str):
        return _Table([replace(shard, defect=footer)], None)
    schema = footer.schema
    candidates = image_columns(schema)
    columns = choose_columns(schema.names, candidates, config.image_column, config.label_column, file.url, files.where)
    label_type = schema.field(columns.label).type
    if not is_label_type(label_type):
        raise UserError(
            f"{files.where}: label_column: {file.url}: column {columns.label!r} has type {label_type}; a label is a "
            "number or a text"
        )
    if holds_lists(label_type) and config.metric != "map":
        raise UserError(
            f"{files.where}: {file.url} has several labels an image (column {columns.label!r} is {label_type}); set "
            "metric: map, the mean average precision"
        )
    starts = _range_starts(footer.row_count, footer.group_rows)
    ends = [*starts[1:], footer.row_count][: len(starts)]
    ranges = [split_rows(shard, [(start, 0)], end, end - start)[0] for start, end in zip(starts, ends, strict=True)]
    return _Table(ranges, columns, described_class_names(schema, columns.label))


def _range_starts(row_count: int, group_rows: Sequence[int]) -> list[int]:
    """The first rows of shards: whole row groups up to about `_ROWS_OF_SHARD`, and parts of very large ones.

    >>> _range_starts(2_500, [600, 600, 600, 700]), _range_starts(25_000, [25_000])
    ([0, 1200], [0, 10000, 20000])
    """
    if sum(group_rows) != row_count or min(group_rows, default=0) < 0:  # a damaged footer
        return list(range(0, row_count, _ROWS_OF_SHARD))
    starts: list[int] = []
    group_start, rows = 0, _ROWS_OF_SHARD
    for count in group_rows:
        if count and (rows >= _ROWS_OF_SHARD or count > _MOST_ROWS_OF_SHARD):
            starts += range(group_start, group_start + count, _MOST_ROWS_OF_SHARD)
            rows = group_start - starts[-1]
        rows += count
        group_start += count
    return starts


def _describe_csv(file: DataFile, name: str, config: LabelledConfig, files: SetFiles) -> _Table:
    table_format: Format = "tsv" if kind_of(file.url).format == "tsv" else "csv"
    shard = Shard(name, file.url, table_format, file_identity=identity_of_file(file))
    data = DataConfig(path=file.url, max_rows_per_shard=_ROWS_OF_SHARD)
    ranges = text_tables.split_text_table(shard, data, files.setting, check=_accept)
    if not ranges or ranges[0].row_count is None:
        return _Table(ranges, None)
    rows = islice(text_tables.read_rows(ranges[0]), _FIRST_ROWS)
    first = next((row.fields for row in rows if row.problem is None), {})
    names = ranges[0].columns or ()
    candidates = path_columns(first)
    columns = choose_columns(names, candidates, config.image_column, config.label_column, file.url, files.where)
    return _Table(ranges, columns)


def _accept(*_: Any, **__: Any) -> None:
    """Refuse no table by its columns: they are chosen later."""


def _to_labelled(table: Shard, columns: Columns | None, layout: Layout, split: str) -> LabelledShard:
    """A range of rows. `split`: its value in the column of splits; empty if all rows belong to the split."""
    columns = columns or Columns("", "", "")
    return LabelledShard(
        name=table.name,
        url=table.url,
        layout=layout,
        identity=table.file_identity,
        start=table.start_row,
        stop=None if table.row_count is None else table.start_row + table.row_count,
        image_column=columns.image,
        label_column=columns.label,
        split_column=columns.split if split else "",
        split=split,
        table=table,
    )


def _class_names(tables: Mapping[str, _Table], files: SetFiles) -> list[list[str]] | None:
    """The class names that the files describe."""
    described = {name: table.class_names for name, table in tables.items() if table.class_names is not None}
    if not described:
        return None
    first, names = next(iter(described.items()))
    for other, of_other in described.items():
        if of_other != names:
            raise UserError(f"{files.where}: {first} and {other} describe different class names; set class_names")
    return [[name] for name in names]


@dataclass
class _Scan:
    """The labels and splits that the rows name."""

    labels: set[str] = field(default_factory=set)
    rows_of: dict[tuple[str, str], int] = field(default_factory=dict)
    """By shard and split, the rows."""

    def read(self, shard: LabelledShard, split: str) -> None:
        """Read the rows of a shard, without images."""
        for row in read_rows(shard, with_images=False):
            value = split_of_row(row, shard) if shard.split_column and row.problem is None else split
            self.rows_of[shard.name, value] = self.rows_of.get((shard.name, value), 0) + 1
            if value == split and row.problem is None and len(self.labels) <= _MOST_CLASSES:
                label = row.fields.get(shard.label_column)
                self.labels.update(filter(None, map(label_text, label if isinstance(label, list) else [label])))


def _with_classes(
    config: LabelledConfig, shards: Shards, described: list[list[str]] | None, files: SetFiles
) -> OpenedLayout:
    """The set; its labels are its classes where nothing else tells them. Leaves out shards without rows of a split."""
    has_names = described is not None or config.class_names is not None
    is_by_column = any(shard.split_column for of_split in shards.values() for shard in of_split)
    if has_names and not is_by_column:
        return _checked(OpenedLayout(shards, described), files)
    scan = _Scan()
    for split, of_split in shards.items():
        for shard in of_split:
            if shard.stop is not None:
                scan.read(shard, split)
        if is_by_column:
            shards[split] = [shard for shard in of_split if shard.stop is None or (shard.name, split) in scan.rows_of]
            if not shards[split]:
                splits = {value for _, value in scan.rows_of}
                raise UserError(
                    f"{files.where}: {files.path} has no rows of split {split!r}; its splits are {list_names(splits)}"
                    f"{did_you_mean(split, splits)}"
                )
    opened = OpenedLayout(shards, described) if has_names else _by_labels(config, shards, scan.labels, files)
    return _checked(opened, files)


def _checked(opened: OpenedLayout, files: SetFiles) -> OpenedLayout:
    for split, of_split in opened.splits.items():
        if not of_split:
            raise UserError(f"{files.where}: {files.path} has no rows of split {split!r}")
    return opened


def _by_labels(config: LabelledConfig, shards: Shards, labels: set[str], files: SetFiles) -> OpenedLayout:
    """The set with its labels as classes. Numbers have no names, but without prompts none are needed."""
    if len(labels) > _MOST_CLASSES:
        raise UserError(
            f"{files.where}: {files.path} has more than {_MOST_CLASSES:,} different labels; set label_column"
        )
    if not all(label.isascii() and label.isdigit() for label in labels):
        return OpenedLayout(shards, None, tuple(sorted_texts(labels)))
    count = max((int(label[:20]) for label in labels), default=-1) + 1
    if config.zero_shot or config.wording or not count:
        return OpenedLayout(shards, None)
    if count > _MOST_CLASSES:
        raise UserError(
            f"{files.where}: {files.path} has the label {count - 1:,}; labels count from 0. Set label_column"
        )
    return OpenedLayout(shards, [[str(number)] for number in range(count)])
