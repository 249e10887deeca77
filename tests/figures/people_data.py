"""Three datasets as a new user has them, of real pictures: img2dataset's tars, Hugging Face's Parquet, a CSV."""

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

PICTURES = 200
_SITE = "https://pictures.example.org"
_CARD = """---
license: cc0-1.0
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: test
    path: data/test-*
---
# Clothes

Photographs of clothes.
"""
_FAILURES = {"failed_to_download": "HTTP Error 404: Not Found", "failed_to_resize": "Image decoding error"}
"""What img2dataset says of URLs that it could not use."""


def img2dataset_folder(data: Path, directory: Path) -> Path:
    """Tars of emoji with `txt` and `json`, and beside each a Parquet file of all tried URLs and its statistics."""
    samples = _emoji(data, "00000.tar")
    half = PICTURES // 2
    for shard in range(2):
        directory.mkdir(parents=True, exist_ok=True)
        rows = [
            _tried(f"{shard:05d}{number:04d}", key, caption, picture)
            for number, (key, caption, picture) in enumerate(islice(samples, half))
        ]
        with tarfile.open(directory / f"{shard:05d}.tar", "w") as tar:
            for row, picture in rows:
                _add(tar, f"{row['key']}.jpg", picture)
                _add(tar, f"{row['key']}.txt", row["caption"].encode())
                _add(tar, f"{row['key']}.json", json.dumps(row, indent=4).encode())
        lost = [_lost(f"{shard:05d}{half + number:04d}", *each) for number, each in enumerate(_FAILURES.items())]
        pq.write_table(pa.Table.from_pylist([*(row for row, _ in rows), *lost]), directory / f"{shard:05d}.parquet")
        stats = {
            **{"count": half + len(lost), "successes": half, "failed_to_download": 1, "failed_to_resize": 1},
            **{"duration": 7.4, "start_time": 1_700_000_000.0, "end_time": 1_700_000_007.4},
            "status_dict": {"success": half, **dict.fromkeys(_FAILURES.values(), 1)},
        }
        (directory / f"{shard:05d}_stats.json").write_text(json.dumps(stats, indent=4))
    return directory


def hugging_face_repository(data: Path, directory: Path) -> Path:
    """Photographs of clothes as `datasets` writes them, with a split for the test and the data set's card."""
    names = (data / "clothing-cc0" / "classnames.txt").read_text().splitlines()
    (directory / "data").mkdir(parents=True, exist_ok=True)
    (directory / "README.md").write_text(_CARD)
    (directory / ".gitattributes").write_text("*.parquet filter=lfs diff=lfs merge=lfs -text\n")
    features = {"image": {"_type": "Image"}, "text": {"dtype": "string", "_type": "Value"}}
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", struct), ("text", pa.string())], {"huggingface": json.dumps({"info": features})})
    for split, count in (("train", PICTURES), ("test", PICTURES // 5)):
        samples = list(islice(_members(data / "clothing-cc0" / split / "0.tar", "cls"), count))
        columns = {
            "image": [{"bytes": picture, "path": f"{key}.jpg"} for key, _, picture in samples],
            "text": [f"a photo of a {names[int(label)]}" for _, label, _ in samples],
        }
        pq.write_table(pa.table(columns, schema), directory / "data" / f"{split}-00000-of-00001.parquet")
    return directory


def csv_beside_pictures(data: Path, directory: Path) -> Path:
    """A CSV as a spreadsheet writes it, with alt-texts and names of pictures in a directory beside it."""
    (directory / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for key, caption, picture in islice(_emoji(data, "00001.tar"), PICTURES):
        (directory / "images" / f"{key}.jpg").write_bytes(picture)
        rows.append({"id": key, "image": f"images/{key}.jpg", "title": caption, "url": f"{_SITE}/{key}.jpg"})
    with (directory / "pictures.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return directory / "pictures.csv"


def _emoji(data: Path, name: str) -> Iterator[tuple[str, str, bytes]]:
    return _members(data / "fluent-emoji" / name, "txt")


def _members(path: Path, kind: str) -> Iterator[tuple[str, str, bytes]]:
    """The samples of a tar: key, text of the member of a kind, picture."""
    texts: dict[str, str] = {}
    pictures: dict[str, bytes] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, extension = member.name.partition(".")
            file = tar.extractfile(member)
            if file is None or extension not in (kind, "jpg"):
                continue
            if extension == "jpg":
                pictures[key] = file.read()
            else:
                texts[key] = file.read().decode()
            if key in texts and key in pictures:
                yield key, texts.pop(key), pictures.pop(key)


def _tried(key: str, name: str, caption: str, picture: bytes) -> tuple[dict[str, Any], bytes]:
    """The row of a fetched picture, and its bytes."""
    width, height = Image.open(io.BytesIO(picture)).size
    row = {
        **{"caption": caption, "url": f"{_SITE}/{name}.jpg", "key": key, "status": "success", "error_message": None},
        **{"width": width, "height": height, "original_width": width, "original_height": height, "exif": "{}"},
        "sha256": hashlib.sha256(picture).hexdigest(),
    }
    return row, picture


def _lost(key: str, status: str, message: str) -> dict[str, Any]:
    empty: Sequence[str] = ("width", "height", "original_width", "original_height", "exif", "sha256")
    row = {"caption": "a lost picture", "url": f"{_SITE}/lost.jpg", "key": key, "status": status}
    return {**row, "error_message": message, **dict.fromkeys(empty)}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
