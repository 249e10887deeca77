"""Where the samples are and how to read them."""

from typing import Annotated, Literal

from pydantic import Field

from laclip_ray.config.fields import Format, Section
from laclip_ray.config.markers import InputPath


class DataConfig(Section):
    """Where the samples are and how to read them."""

    path: Annotated[str | list[str], InputPath()]
    """Files, directories or globs; local paths or any fsspec URL."""
    format: Literal["auto", Format] = "auto"
    """File format. `auto`: by the file extension."""
    image_column: str | None = None
    """Column of the image bytes (Parquet) or the image path (CSV, TSV, JSON lines). None: the table has no images."""
    caption_column: str = "caption"
    """Column of the caption. WebDataset: the key in the json member of a sample without a txt member."""
    id_column: str | None = None
    """Column of the sample's id. None: the WebDataset key, else the image path, else the `url` column, else a hash of
    the caption."""
    columns: list[str] | None = None
    """Column names, in order, of CSV and TSV files without a header. None: the first row is the header."""
    image_root: Annotated[str | None, InputPath()] = None
    """Directory that relative image paths in tables start from. None: the table's own directory."""
    max_rows_per_shard: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Rows in a shard, at most. Larger Parquet files and tables are cut into row ranges."""
