"""Small labelled sets of each layout, and how tests read them."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from laclip_ray.config import LabelledConfig
from laclip_ray.evaluation.sets.labelled_set import (
    LabelChecks,
    LabelledImage,
    LabelledSet,
    open_labelled_set,
    read_labelled,
)
from tests.unit.conftest import picture, write_tar

NAMES = ["red fox", "snow owl", "hare"]


def make_tars(root: Path, **settings: Any) -> LabelledConfig:
    """Two shards of labelled images of three classes."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classnames.txt").write_text("".join(f"{name}\n" for name in NAMES), encoding="utf-8")
    (root / "zeroshot_classification_templates.txt").write_text("a photo of a {c}\nthe {c}\n", encoding="utf-8")
    for shard in range(2):
        members = []
        for label in range(3):
            members += [
                (f"s{shard}{label}.png", picture(width=10 + label)),
                (f"s{shard}{label}.cls", b"%d\n" % label),
            ]
        write_tar(root / "test" / f"{shard}.tar", members)
    (root / "test" / "nshards.txt").write_text("2\n", encoding="utf-8")
    return LabelledConfig(**{"name": "animals", "path": str(root), **settings})


def label_with(root: Path, labels: list[bytes], extension: str = "cls", **settings: Any) -> LabelledConfig:
    """A set of one tar with these labels."""
    config = make_tars(root, **settings)
    members = []
    for number, label in enumerate(labels):
        members += [(f"s{number}.png", picture(width=10 + number)), (f"s{number}.{extension}", label)]
    write_tar(root / "test" / "0.tar", members)
    (root / "test" / "nshards.txt").write_text("1")
    return config


def make_folders(root: Path, names: Sequence[str], images: int = 2, **settings: Any) -> LabelledConfig:
    """A directory for each of the names (`test/owl`), with images of different sizes."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for image in range(images):
            (root / name / f"{image}.png").write_bytes(picture(width=10 + number, height=10 + image))
    return LabelledConfig(**{"name": "animals", "path": str(root), "templates": "simple", **settings})


def make_parquet(
    path: Path,
    labels: Sequence[Any],
    names: Sequence[str] | None = NAMES,
    label_type: pa.DataType | None = None,
    image: str = "image",
    label: str = "label",
    group_rows: int | None = None,
) -> Path:
    """A file as `datasets` writes it: images as structs, labels, and their names in the metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": picture(width=10 + number % 50), "path": None} for number in range(len(labels))]
    columns = {
        image: pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        label: pa.array(list(labels), label_type),
    }
    table = pa.table(columns)
    if names is not None:
        feature: Any = {"names": list(names), "_type": "ClassLabel"}
        if pa.types.is_list(table.schema.field(label).type):
            feature = {"feature": feature, "_type": "Sequence"}
        info = {"info": {"features": {image: {"_type": "Image"}, label: feature}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=group_rows)
    return path


def make_csv(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("image", "label")) -> Path:
    """A CSV, and the images that its first column names if they are local."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    path.write_text(text.getvalue(), encoding="utf-8")
    for number, row in enumerate(rows):
        image = path.parent / row[0]
        if row[0].endswith(".png") and ".." not in row[0]:
            image.parent.mkdir(parents=True, exist_ok=True)
            image.write_bytes(picture(width=10 + number))
    return path


def images_of(labelled: LabelledSet, split: str = "test") -> list[LabelledImage]:
    """All images of a split."""
    return [image for shard in labelled.splits[split] for image in read_labelled(shard)]


def labels_of(config: LabelledConfig, split: str = "test") -> list[tuple[int, ...] | None]:
    """The labels of all images of a split, checked as a run checks them."""
    labelled = open_labelled_set(config)
    checks = LabelChecks(labelled)
    labels = [checks.read(image.label) for image in images_of(labelled, split)]
    checks.finish()
    return labels


def labels_by_id(config: LabelledConfig, split: str = "test") -> dict[str, tuple[int, ...] | None]:
    """The labels of all images of a split by id."""
    labelled = open_labelled_set(config)
    return {image.id: labelled.labels_of(image.label) for image in images_of(labelled, split)}
