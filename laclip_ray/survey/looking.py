"""Look at a folder, file or URL: its format, columns, size and some of its rows, for a config that reads it.

It reads with the readers of `laclip_ray.data`, so it finds the rows that a run sees. Pictures on other hosts are not
fetched.
"""

import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from laclip_ray import storage
from laclip_ray.config import DataConfig, Format
from laclip_ray.data.file_formats import EXTENSIONS, kind_of
from laclip_ray.data.image_sources import ImageSource
from laclip_ray.data.img2dataset_stats import ENDING, successes
from laclip_ray.data.left_out import describe_left_out
from laclip_ray.data.listing import find_files
from laclip_ray.data.records import Shard
from laclip_ray.data.shards import Listing, list_dataset, read_samples
from laclip_ray.errors import UserError
from laclip_ray.survey.columns import Choice, Columns, Kind, choose_columns, is_image_path
from laclip_ray.survey.facts import EvaluatedSplit, Facts, Rows
from laclip_ray.survey.pairs import CAPTION_COLUMN, IMAGE_COLUMN, Pairs, find_pairs, table_of_pairs
from laclip_ray.survey.sampling import count_rows, sample_rows
from laclip_ray.survey.splits import TRAIN, evaluated_split, paths_of, splits_of
from laclip_ray.survey.table_heads import TableHead, read_head
from laclip_ray.survey.tar_heads import TXT, columns_of_tars
from laclip_ray.tally import Tally, first_names

"""img2dataset writes such a file beside each tar."""
_MOST_STATS = 2_000
_THREADS = 16
_ROOT_ROWS = 8
"""Number of image paths tried below each possible root."""


@dataclass
class _Content:
    """The files at a path, by possible format."""

    root: str = ""
    bytes_by_format: Counter[Format] = field(default_factory=Counter)
    first_urls: dict[Format, list[str]] = field(default_factory=dict)
    stats: list[str] = field(default_factory=list)
    pair_names: list[str] = field(default_factory=list)
    """Pictures and text files, below the root."""
    others: Counter[str] = field(default_factory=Counter)
    """By extension."""


def look(path: str, pairs_table: str) -> Facts:
    """Look at data.

    Args:
        path: a file, a directory or a glob, local or a URL.
        pairs_table: where to write the table of pictures with text files beside them, if the data is of this kind.

    Raises:
        UserError: there is no data, or no captions; the message says what to do.
        OSError: the storage failed.
    """
    content = _content_of(path)
    formats = content.bytes_by_format
    pairs = find_pairs(content.pair_names)
    if not formats or (pairs.captions and "webdataset" not in formats and not _have_local_pictures(content)):
        return _look_at_pairs(path, content, pairs, pairs_table)
    notes: list[str] = []
    if pairs.captions:
        notes.append(f"pictures with a text file beside them, which are not read: {len(pairs.captions):,}")
    are_beside = _are_beside_tars(content)
    chosen: Format = "webdataset" if are_beside else max(formats, key=lambda each: formats[each])
    data = DataConfig(path=path)
    others = sorted(formats.keys() - {chosen})
    if others and not are_beside:
        data = data.model_copy(update={"format": chosen})
        notes.append(f"{chosen} is read, which has most bytes; the path also holds {', '.join(others)} (data.format)")
    return _look_at(data, chosen, content, notes)


def _content_of(path: str) -> _Content:
    (files,) = find_files([path], "data", Tally()).values()
    content = _Content()
    for file in files:
        content.root = content.root or file.root
        kind = kind_of(file.url)
        if kind.format is not None:
            content.bytes_by_format[kind.format] += file.info.get("size") or 1
            content.first_urls.setdefault(kind.format, []).append(file.url)
        elif file.name.endswith(ENDING):
            content.stats.append(file.url)
        else:
            content.others[kind.extension or "without an extension"] += 1
            if kind.extension == ".txt" or is_image_path(file.name):
                content.pair_names.append(file.name)
    return content


def _are_beside_tars(content: _Content) -> bool:
    """Whether there are tars, and all other files describe them, which the listing leaves out itself."""
    tars = {kind_of(url).stem for url in content.first_urls.get("webdataset", ())}
    others = (url for each, urls in content.first_urls.items() if each != "webdataset" for url in urls)
    return bool(tars) and all(kind_of(url).stem in tars for url in others)


def _have_local_pictures(content: _Content) -> bool:
    """Whether tables hold pictures or name image files. img2dataset's lists of pictures that it wrote name URLs."""
    for chosen, urls in content.first_urls.items():
        try:
            image = _first_readable(sorted(urls), chosen)[1].image
        except UserError:
            continue
        if image is not None and image.kind is not Kind.URLS:
            return True
    return False


def _look_at(data: DataConfig, chosen: Format, content: _Content, notes: list[str]) -> Facts:
    splits = splits_of(sorted(content.first_urls[chosen]), content.root)
    data, evaluated = _with_splits(data, splits, content.root, notes)
    urls = sorted(content.first_urls[chosen]) if evaluated is None else splits[TRAIN]
    if chosen == "webdataset":
        columns = columns_of_tars(urls)
        if columns.caption is not None and columns.caption.name != TXT:
            data = data.model_copy(update={"caption_column": columns.caption.name})
    else:
        columns, data = _columns_of_table(urls, chosen, data, notes)
    assert columns.caption is not None
    listing = list_dataset(data)
    if columns.image is not None and columns.image.kind is Kind.PATHS and chosen != "webdataset":
        data = _with_image_root(data, listing.shards[0], columns.image, notes)
    is_on_hosts = columns.image is not None and columns.image.kind is Kind.URLS
    sampled = sample_rows(data, listing.shards, columns.image is not None and not is_on_hosts)
    if not sampled.captions.captions:
        problems = ", ".join(f"{count} {problem}" for problem, count in sampled.problems.counts.most_common(4))
        raise UserError(
            f"data: none of the {sampled.rows:,} rows looked at has a caption ({problems}); give data with captions"
        )
    if left_out := describe_left_out(listing.left_out):
        notes.append(f"not read: {left_out}")
    sizes = [size for shard in listing.shards if (size := shard.size_bytes) is not None and not shard.start_row]
    files = len({shard.url for shard in listing.shards})
    return Facts(
        data, chosen, files, len(listing.shards), sum(sizes) if len(sizes) == files else None,
        _rows(data, listing, content), columns.caption, columns.image, columns.id, sampled,
        _evaluated(evaluated, data, columns.image, content, notes), notes,
    )  # fmt: skip


def _with_splits(
    data: DataConfig, splits: Mapping[str, Sequence[str]], root: str, notes: list[str]
) -> tuple[DataConfig, tuple[str, list[str]] | None]:
    """The data of the split to train on, and the name and paths of the one to measure; both whole without splits."""
    paths = {name: paths_of(urls, root) for name, urls in splits.items() if name}
    name = evaluated_split(splits)
    train, evaluated = paths.get(TRAIN), paths.get(name or "")
    if name and train and evaluated:
        if unused := sorted(paths.keys() - {TRAIN, name}):
            notes.append(f"splits that are not read: {', '.join(unused)}")
        return data.model_copy(update={"path": _one_or_list(train)}), (name, evaluated)
    if len(splits) > 1 and paths:
        such_as = f", such as {train[0]}" if train and len(train) == 1 else ""
        notes.append(
            f"several splits are read together ({', '.join(sorted(paths))}); give the one to train on{such_as}"
        )
    return data, None


def _one_or_list(paths: list[str]) -> str | list[str]:
    return paths[0] if len(paths) == 1 else paths


def _evaluated(
    split: tuple[str, list[str]] | None, data: DataConfig, image: Choice | None, content: _Content, notes: list[str]
) -> EvaluatedSplit | None:
    """The split to measure, read like the training data; None if it cannot be, and samples are held out then."""
    if split is None:
        return None
    name, paths = split
    data = data.model_copy(update={"path": _one_or_list(paths), "image_root": None})
    try:
        listing = list_dataset(data)
    except UserError as error:
        notes.append(f"the split {name} is not read: {error}")
        return None
    if image is None:
        notes.append(f"the split {name} is not read")
        return None
    if image.kind is Kind.PATHS and listing.format != "webdataset":
        data = _with_image_root(data, listing.shards[0], image, [])
    return EvaluatedSplit(name, data, _rows(data, listing, content))


def _rows(data: DataConfig, listing: Listing, content: _Content) -> Rows:
    shards = listing.shards
    if listing.format != "webdataset":
        how = "by the Parquet footers" if listing.format == "parquet" else "counted"
        return Rows(sum(shard.known_rows or 0 for shard in shards), True, how)
    if (counted := _img2dataset_successes(content, shards)) is not None:
        return Rows(counted, True, "by img2dataset's _stats.json")
    return count_rows(data, shards)


def _img2dataset_successes(content: _Content, shards: Sequence[Shard]) -> int | None:
    """The samples of img2dataset's tars by the files that it writes beside them. None: a tar has no such file."""
    stems = {kind_of(shard.url).stem for shard in shards}
    beside = [url for url in content.stats if url.removesuffix(ENDING) in stems]
    if len(beside) != len(stems) or len(beside) > _MOST_STATS:
        return None
    with ThreadPoolExecutor(_THREADS) as pool:
        counts = [successes(read) for read in pool.map(storage.read_bytes, beside)]
    return None if None in counts else sum(count for count in counts if count is not None)


def _columns_of_table(
    urls: Sequence[str], chosen: Format, data: DataConfig, notes: list[str]
) -> tuple[Columns, DataConfig]:
    head, columns = _first_readable(urls, chosen)
    names = [column.name for column in head.columns]
    if columns.caption is None:
        raise UserError(
            f"data.caption_column: {urls[0]} has no column of texts (columns: {first_names(names, 12)}); give a table "
            "with a column of captions"
        )
    changed: dict[str, Any] = {"caption_column": columns.caption.name}
    if head.lacks_header:
        columns = replace(columns, caption=replace(columns.caption, reason="it has texts"))
        changed["columns"] = names
        notes.append(f"the table has no header: data.columns names its columns ({', '.join(names)})")
    if columns.image is not None:
        changed["image_column"] = columns.image.name
    if columns.id is not None:
        changed["id_column"] = columns.id.name
    return columns, data.model_copy(update=changed)


def _first_readable(urls: Sequence[str], chosen: Format) -> tuple[TableHead, Columns]:
    """The start of the first table that can be read."""
    error: UserError | None = None
    for url in urls[:_THREADS]:
        try:
            head = read_head(url, chosen)
            return head, choose_columns(head.columns)
        except UserError as refused:
            error = error or refused
    assert error is not None
    raise error


def _with_image_root(data: DataConfig, shard: Shard, image: Choice, notes: list[str]) -> DataConfig:
    """The data with the root below which its image paths exist: the table's directory, or one around it."""
    paths = [sample.image_path for sample in islice(read_samples(shard, data, with_images=False), _ROOT_ROWS)]
    values = [path for path in paths if path]
    here = posixpath.dirname(shard.url)
    above = posixpath.dirname(here)
    roots = [here, *(storage.join(here, name) for name in ("images", "image", "imgs")), above,
             storage.join(above, "images")]  # fmt: skip
    if values and all(value.startswith("/") for value in values) and storage.is_local(here):
        roots.append(posixpath.commonpath([posixpath.dirname(value) for value in values]))
    counts = {root: _readable(data, shard.url, root, values) for root in roots}
    best = max(roots, key=lambda root: counts[root])
    if not counts[best]:
        notes.append(
            f"none of the first image paths of {image.name!r} exists below {here}; set data.image_root to the "
            "directory that they start from"
        )
        return data
    return data if best == here else data.model_copy(update={"image_root": best})


def _readable(data: DataConfig, table: str, root: str, values: Sequence[str]) -> int:
    source = ImageSource(table, data.model_copy(update={"image_root": root}))
    count = 0
    for value in values:
        place = source.locate(value)
        if isinstance(place, bytes | str):
            continue
        try:
            count += isinstance(source.read(place), bytes)
        except OSError:
            continue
    return count


def _look_at_pairs(path: str, content: _Content, pairs: Pairs, table: str) -> Facts:
    if not pairs.captions:
        raise UserError(_refusal(path, content, pairs.pictures))
    root = content.root
    if not storage.is_local(path):
        root = storage.url_of(*storage.filesystem(path)[:1], content.root, path)
    storage.write_bytes(table, table_of_pairs(root, pairs))
    data = DataConfig(path=table, caption_column=CAPTION_COLUMN, image_column=IMAGE_COLUMN, image_root=root)
    listing = list_dataset(data)
    notes = [f"the texts beside the pictures were written to {table}, which the config reads; run this again after a "
             "change"]  # fmt: skip
    if content.bytes_by_format:
        notes.append(f"tables without pictures of their own, which are not read: {', '.join(content.bytes_by_format)}")
    if pairs.lonely_pictures:
        notes.append(f"pictures without a text file of their name, which are not read: {pairs.lonely_pictures:,}")
    if pairs.lonely_texts:
        notes.append(f"text files without a picture of their name, which are not read: {pairs.lonely_texts:,}")
    return Facts(
        data, "jsonl", 1, len(listing.shards), None, Rows(len(pairs.captions), True, "counted"),
        Choice(CAPTION_COLUMN, Kind.TEXTS, "text files beside pictures of the same name"),
        Choice(IMAGE_COLUMN, Kind.PATHS, f"it holds {Kind.PATHS}"), None,
        sample_rows(data, listing.shards, with_pictures=True), notes=notes,
    )  # fmt: skip


def _refusal(path: str, content: _Content, pictures: int) -> str:
    """Why no sample can be trained on, and the remedy."""
    if pictures:
        return (
            f"data.path: {path!r} holds pictures ({pictures:,}) without captions; put a text file beside each "
            "(0001.jpg, 0001.txt), or a metadata.csv with the columns file_name and text. Pictures sorted into a "
            "directory for each class are a set for evaluate.labelled"
        )
    found = ", ".join(f"{count:,} {extension}" for extension, count in content.others.most_common(5)) or "no files"
    advice = "give tars, Parquet, CSV, TSV or JSON lines, or pictures with text files beside them"
    if ".json" in content.others:
        advice = "write JSON arrays as JSON lines (.jsonl): an object with the picture and its caption in each line"
    if any(extension.endswith((".gz", ".zip", ".zst", ".bz2", ".xz")) for extension in content.others):
        advice = "unpack compressed tables"
    return f"data.path: {path!r} holds none of {', '.join(EXTENSIONS)} (it holds {found}); {advice}"
