"""Twelve layouts in which people have pictures with captions, and one of captions alone, each written small.

Every layout holds the same `PAIRS` pictures and captions, so whatever reads one must give what it gives for the others.
"""

import csv
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PAIRS = 24
HOST = "http://127.0.0.1:1"
"""No server answers here. A figure serves the pictures."""

_THINGS = ("fox", "owl", "hare", "boat", "mug", "kite")
_COLOURS = ("red", "grey", "blue", "yellow")
CAPTIONS = [f"a {colour} {thing} beside the old wall" for colour in _COLOURS for thing in _THINGS]


def picture(number: int) -> bytes:
    """A JPEG of 40 x 32 pixels, different for each number."""
    across, down = np.meshgrid(np.linspace(0, 200, 40), np.linspace(0, 200, 32))
    pixels = np.stack([across, down, np.full_like(across, 10 * number)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def _names() -> list[str]:
    return [f"{number:05d}.jpg" for number in range(PAIRS)]


def _write_pictures(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(_names()):
        (directory / name).write_bytes(picture(number))


def _write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def _members(numbers: Sequence[int], kind: str, host: str = HOST) -> Iterable[tuple[str, bytes]]:
    for number in numbers:
        yield f"{number:05d}.jpg", picture(number)
        if kind != "json":
            yield f"{number:05d}.txt", CAPTIONS[number].encode()
        if kind != "txt":
            fields = {"key": f"{number:05d}", "caption": CAPTIONS[number], "url": f"{host}/{number:05d}.jpg"}
            yield f"{number:05d}.json", json.dumps(fields).encode()


_HALVES = (range(PAIRS // 2), range(PAIRS // 2, PAIRS))


def webdataset(directory: Path, host: str = HOST) -> str:
    """Tars of pictures and text files."""
    for shard, numbers in enumerate(_HALVES):
        _write_tar(directory / f"{shard:05d}.tar", _members(numbers, "txt"))
    return str(directory)


def webdataset_json(directory: Path, host: str = HOST) -> str:
    """Tars whose captions are in json members, given as a pattern with braces."""
    for shard, numbers in enumerate(_HALVES):
        _write_tar(directory / f"{shard:05d}.tar", _members(numbers, "json", host))
    return str(directory / "{00000..00001}.tar")


def img2dataset(directory: Path, host: str = HOST) -> str:
    """What img2dataset writes: tars, and beside each a Parquet file of all tried URLs and its statistics."""
    for shard, numbers in enumerate(_HALVES):
        _write_tar(directory / f"{shard:05d}.tar", _members(numbers, "both", host))
        rows = [(f"{number:05d}", CAPTIONS[number], f"{host}/{number:05d}.jpg", "success") for number in numbers]
        rows.append((f"9{shard:04d}", "a lost one", f"{host}/lost.jpg", "failed_to_download"))
        keys, captions, urls, states = zip(*rows, strict=True)
        table = pa.table({"url": urls, "caption": captions, "key": keys, "status": states})
        pq.write_table(table, directory / f"{shard:05d}.parquet")
        stats = {"count": len(rows), "successes": len(numbers)}
        (directory / f"{shard:05d}_stats.json").write_text(json.dumps(stats))
    return str(directory)


def hugging_face_parquet(directory: Path, host: str = HOST) -> str:
    """Parquet as `datasets` writes it: the picture is a struct of bytes and path."""
    directory.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": picture(number), "path": name} for number, name in enumerate(_names())]
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(images, image_type), "text": CAPTIONS, "split": ["train"] * PAIRS})
    pq.write_table(table, directory / "train-00000-of-00001.parquet")
    return str(directory)


def parquet_of_bytes(directory: Path, host: str = HOST) -> str:
    """Parquet of encoded pictures, with ids and lists of captions."""
    directory.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = {
        "id": [f"p{number}" for number in range(PAIRS)],
        "jpg": [picture(number) for number in range(PAIRS)],
        "captions": [[caption, f"{caption} again"] for caption in CAPTIONS],
    }
    pq.write_table(pa.table(columns), directory / "0.parquet")
    return str(directory / "0.parquet")


def parquet_of_urls(directory: Path, host: str = HOST) -> str:
    """Parquet of URLs and captions, as LAION publishes them."""
    directory.mkdir(parents=True, exist_ok=True)
    urls = [f"{host}/{name}" for name in _names()]
    table = pa.table({"URL": urls, "TEXT": CAPTIONS, "WIDTH": [40] * PAIRS, "similarity": [0.3] * PAIRS})
    pq.write_table(table, directory / "part-0.parquet")
    return str(directory)


def csv_of_paths(directory: Path, host: str = HOST) -> str:
    """CSV with paths below an `images` directory beside it."""
    _write_pictures(directory / "images")
    _write_csv(directory / "captions.csv", ("filepath", "title"), zip(_names(), CAPTIONS, strict=True))
    return str(directory / "captions.csv")


def csv_of_urls(directory: Path, host: str = HOST) -> str:
    """CSV with URLs, separated by semicolons."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = [(number, f"{host}/{name}", CAPTIONS[number]) for number, name in enumerate(_names())]
    _write_csv(directory / "pictures.csv", ("number", "image_url", "caption"), rows, delimiter=";")
    return str(directory / "pictures.csv")


def tsv_without_header(directory: Path, host: str = HOST) -> str:
    """Captions and URLs without a header, as Conceptual Captions' lists."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [f"{caption}\t{host}/{name}\n" for caption, name in zip(CAPTIONS, _names(), strict=True)]
    (directory / "Train_GCC.tsv").write_text("".join(lines))
    return str(directory / "Train_GCC.tsv")


def json_lines(directory: Path, host: str = HOST) -> str:
    """JSON lines with paths below their own directory."""
    _write_pictures(directory / "pictures")
    rows = [{"image": f"pictures/{name}", "caption": CAPTIONS[number]} for number, name in enumerate(_names())]
    (directory / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(directory)


def imagefolder(directory: Path, host: str = HOST) -> str:
    """Hugging Face's imagefolder: pictures with a metadata.csv beside them."""
    _write_pictures(directory / "train")
    _write_csv(directory / "train" / "metadata.csv", ("file_name", "text"), zip(_names(), CAPTIONS, strict=True))
    return str(directory)


def pictures_with_texts(directory: Path, host: str = HOST) -> str:
    """Pictures with text files of the same names."""
    _write_pictures(directory / "a")
    for name, caption in zip(_names(), CAPTIONS, strict=True):
        (directory / "a" / name).with_suffix(".txt").write_text(f"{caption}\n")
    return str(directory)


def captions_alone(directory: Path, host: str = HOST) -> str:
    """Captions without pictures, which can only be rewritten."""
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"caption": CAPTIONS}), directory / "captions.parquet")
    return str(directory)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])


class Layout(Protocol):
    """Writes itself into a directory, and returns what a user gives to `laclip init`."""

    __name__: str

    def __call__(self, directory: Path, host: str = HOST) -> str:
        """Write the files; `host` begins the URLs of pictures."""
        ...


WITH_PICTURES: tuple[Layout, ...] = (
    webdataset, webdataset_json, img2dataset, hugging_face_parquet, parquet_of_bytes, parquet_of_urls, csv_of_paths,
    csv_of_urls, tsv_without_header, json_lines, imagefolder, pictures_with_texts,
)  # fmt: skip
ON_HOSTS: frozenset[Layout] = frozenset({parquet_of_urls, csv_of_urls, tsv_without_header})
"""Layouts whose pictures are fetched from `HOST`."""
EXPECTED: dict[Layout, dict[str, Any]] = {
    webdataset: {},
    webdataset_json: {},
    img2dataset: {},
    hugging_face_parquet: {"caption_column": "text", "image_column": "image", "id_column": "image.path"},
    parquet_of_bytes: {"caption_column": "captions", "image_column": "jpg", "id_column": "id"},
    parquet_of_urls: {"caption_column": "TEXT", "image_column": "URL"},
    csv_of_paths: {"caption_column": "title", "image_column": "filepath", "image_root": "images"},
    csv_of_urls: {"image_column": "image_url"},
    tsv_without_header: {"image_column": "url", "columns": ["caption", "url"]},
    json_lines: {"image_column": "image"},
    imagefolder: {"caption_column": "text", "image_column": "file_name"},
    pictures_with_texts: {"image_column": "image", "image_root": ""},
    captions_alone: {},
}
"""By layout, the keys of `data` that a config must set, besides `path` and `held_out`; `image_root` below the layout's
directory."""
