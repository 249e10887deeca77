"""Where the samples are and how to read them."""

from typing import Annotated, Literal

from pydantic import Field

from laclip_ray.config.fields import Format, Section


class DataConfig(Section):
    """Where the samples are and how to read them."""

    path: str | list[str]
    """Files, directories or globs; local or any fsspec URL."""
    format: Literal["auto", Format] = "auto"
    """`auto` goes by the file extension."""
    image_column: str | None = None
    """Tables: image bytes (Parquet) or image path (manifests). None: a captions-only table."""
    caption_column: str = "caption"
    """Tables: the caption; WebDataset: the key of a json member, used where there is no txt member."""
    id_column: str | None = None
    """Where ids come from. None: WebDataset key, else image path, else `url` column, else a caption hash."""
    columns: list[str] | None = None
    """CSV and TSV files without a header: the names of their columns, in order."""
    image_root: str | None = None
    """Manifests: what relative image paths are relative to. None: the manifest's own directory."""
    max_rows_per_shard: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Larger Parquet files and tables are cut into ranges of at most this many rows."""
