"""Where the samples are and how to read them."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from laclip_ray.config.fields import CaptionChoice, Format, PositiveInt, Quoting, Section
from laclip_ray.config.markers import InputPath, MayChangeOnResume

_WEB = ("http", "https")
"""Schemes readable on every machine. To ask fsspec for them imports aiohttp, which takes a quarter of a second."""


class DataConfig(Section):
    """Where the samples are and how to read them."""

    path: Annotated[str | list[str], InputPath()]
    """Files, directories or globs; local paths, any fsspec URL, or addresses of data sets' pages on the Hugging Face
    Hub."""
    index: Annotated[str | None, InputPath(), MayChangeOnResume()] = None
    """A dataset index that `laclip data index` has made. Verbs check it by one listing and open only new and changed
    files. None: `data-index.parquet` in `output`, if it is there."""
    format: Literal["auto", Format] = "auto"
    """File format. `auto`: by the file extension."""
    image_column: str | None = None
    """Column of the image bytes (Parquet) or the image path (CSV, TSV, JSON lines). None: the table has no images."""
    caption_column: str = "caption"
    """Column of the caption. WebDataset: the key in the json member of a sample without a txt member."""
    id_column: str | None = None
    """Column of the sample's id; in Parquet also a member of a struct, as `image.path` of Hugging Face's images. None:
    the WebDataset key, else the image path, else the `url` column, else a hash of the caption."""
    captions: CaptionChoice = "first"
    """Captions of a row that has a list of them. `first`: the first one. `all`: a row for each, with a common image."""
    columns: list[str] | None = None
    """Column names, in order, of CSV and TSV files without a header. None: the first row is the header."""
    quoting: Quoting = "auto"
    """Quotes in CSV and TSV files. `auto`: decided by the first block of each file. `standard`: a field in double
    quotes may hold separators and line breaks. `none`: quotes are ordinary characters."""
    image_root: Annotated[str | None, InputPath()] = None
    """Directory that relative image paths in tables start from. Local image paths outside it, with links followed, are
    refused; `/` allows all. None: the table's own directory."""
    image_schemes: list[str] = ["http", "https"]
    """Schemes of image URLs in tables that are fetched. The schemes of the table itself and of `image_root` are always
    allowed."""
    private_hosts: bool = False
    """Fetch images over HTTP from addresses that are not public (loopback, private networks, link-local). The hosts of
    the table itself and of `image_root` are always allowed."""
    exif: bool = True
    """Turn images by their EXIF orientation. false: ignore it, as the paper's code does (Pillow still turns TIFFs)."""
    max_image_bytes: PositiveInt = 64 * 2**20
    """Encoded images of more bytes are skipped."""
    max_pixels: Annotated[int, Field(ge=1, le=178_000_000)] = 50_000_000
    """Images of more pixels are skipped before they are decoded. A pixel of WebP, AVIF, TIFF and progressive CMYK JPEG
    counts as two, as decoding it takes twice the memory."""
    max_rows_per_shard: Annotated[int, Field(ge=1, le=10_000)] = 10_000
    """Rows in a shard, at most. Larger Parquet files and tables are cut into row ranges."""

    held_out: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Share of the samples that training leaves to evaluation (`evaluate.retrieval[].held_out`): a function of
    (`held_out_seed`, id), with all captions of a picture on one side. They are rewritten like the others."""
    held_out_seed: int = 0
    """Decides which samples are held out; independent of `seed`, so runs with other seeds have the same ones."""

    @field_validator("image_schemes")
    @classmethod
    def _readable(cls, schemes: list[str]) -> list[str]:
        for scheme in schemes:
            if scheme.lower() in _WEB:
                continue
            import fsspec

            try:
                fsspec.get_filesystem_class(scheme.lower())
            except (ValueError, ImportError) as error:  # an unknown scheme, or a package that is not installed
                raise ValueError(f"{scheme!r} cannot be read ({error}); install its package or leave it out") from error
        return schemes
