"""SugarCrepe and SugarCrepe++: captions of COCO images with wrong captions that people have checked.

SugarCrepe (Hsieh et al., NeurIPS 2023, arXiv 2306.14610, github.com/RAIVNLab/sugar-crepe): `data/KIND.json`, seven
kinds. A file is an object {number: {filename, caption, negative_caption}}. An image must be closer to the caption.

SugarCrepe++ (Dumpala et al., NeurIPS 2024, arXiv 2406.11171, github.com/Sri-Harsha/scpp): `data/KIND.json`, five kinds.
A file is a list of {id, filename, caption, caption2, negative_caption}, and `caption2` says the same in other words. An
image must be closer to both captions (`image_to_text`), and the captions closer to each other than either is to the
wrong one (`text_only`).

The images are those of COCO's val2017, which both leave to the user. Ties count as wrong in both. Published files have
a few wrong captions that equal their caption; they stay, as in published figures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.evaluation.per_image import Measurement, MetricValues
from laclip_ray.evaluation.wording.preferences import by_image, check_embeddings, share, similarities

_SUFFIX = ".json"
_REMEDY = "give a data directory of SugarCrepe or SugarCrepe++, unchanged"


@dataclass(frozen=True)
class Example:
    """An image with its right and its wrong caption."""

    kind: str
    """The name of its file: `swap_obj`."""
    image: str
    """File name, below the directory of the images."""
    captions: tuple[str, ...]
    """One, or two that say the same (SugarCrepe++)."""
    negative: str


def read_examples(url: str, setting: str) -> list[Example]:
    """Read the annotation files of a directory, or one file.

    Args:
        url: a directory with JSON files, or a file.
        setting: its config key, for messages.

    Raises:
        UserError: there is no such file, a file has another layout, or one- and two-caption files are mixed.
    """
    urls = _files_in(url) if storage.is_directory(url) else [url]
    if not urls or not storage.exists(urls[0]):
        raise UserError(f"{setting}: {url} has no annotation file (KIND.json); {_REMEDY}")
    examples = [example for name in urls for example in _read(name, setting)]
    if len({len(example.captions) for example in examples}) > 1:
        raise UserError(
            f"{setting}: {url} mixes files of SugarCrepe (one caption) and SugarCrepe++ (two); give a directory of each"
        )
    return examples


def _files_in(url: str) -> list[str]:
    """The JSON files of a directory. Those below it are others: SugarCrepe's repository has unrefined ones too."""
    fs, path = storage.filesystem(url)
    root = storage.url_of(fs, path, url).rstrip("/")
    return [name for name in storage.list_files(url) if name.endswith(_SUFFIX) and name.rpartition("/")[0] == root]


def _read(url: str, setting: str) -> Iterator[Example]:
    kind = storage.name_of(url).removesuffix(_SUFFIX)
    try:
        content = storage.read_json(url)
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"{setting}: {url} is not JSON ({error}); {_REMEDY}") from error
    if not isinstance(content, dict | list) or not content:
        raise UserError(f"{setting}: {url} holds no records; {_REMEDY}")
    for number, record in content.items() if isinstance(content, dict) else enumerate(content):
        yield _example(kind, record, f"{setting}: {url}: record {number}")


def _example(kind: str, record: Any, where: str) -> Example:
    if not isinstance(record, dict):
        raise UserError(f"{where} is no object; {_REMEDY}")
    for key in ("filename", "caption", "negative_caption"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            raise UserError(f"{where} has no text {key!r}; {_REMEDY}")
    path = PurePosixPath(record["filename"])
    if path.is_absolute() or ".." in path.parts:
        raise UserError(f"{where}: the file name {record['filename']!r} leaves the directory of the images; {_REMEDY}")
    captions = [record["caption"]]
    if "caption2" in record:
        if not isinstance(record["caption2"], str) or not record["caption2"].strip():
            raise UserError(f"{where} has no text 'caption2'; {_REMEDY}")
        captions.append(record["caption2"])
    return Example(kind, record["filename"], tuple(captions), record["negative_caption"])


def sugar_crepe_metrics(
    examples: Sequence[Example],
    images: torch.Tensor,
    image_of: torch.Tensor,
    texts: torch.Tensor,
    captions: torch.Tensor,
    negatives: torch.Tensor,
) -> Measurement:
    """Measure SugarCrepe or SugarCrepe++.

    Args:
        examples: E examples with the same number of captions S, 1 or 2; those whose images can be used.
        images: float32 [I, D], normalised.
        image_of: int64 [E]: each example's image.
        texts: float32 [T, D], normalised.
        captions: int64 [E, S]: the rows of `texts` of each example's captions.
        negatives: int64 [E]: and of its wrong caption.

    Returns:
        Metrics: the share of right choices by kind (`swap_obj`, and for SugarCrepe++ `swap_obj_image_to_text` and
        `swap_obj_text_only`), their `mean` over kinds, `examples` (counts by kind) and `images`.
        Per image: the shares by kind, weighted by their number.

    Raises:
        NoResultError: embeddings are not finite or all the same.
    """
    assert len(examples)
    check_embeddings(images, "images")
    check_embeddings(texts, "captions")
    to_negative = similarities(images, texts, image_of, negatives)
    is_closer = [
        (similarities(images, texts, image_of, column) > to_negative).numpy() for column in captions.T
    ]  # S of [E]
    if len(is_closer) == 1:
        tasks = {"": is_closer[0]}
    else:
        tasks = {
            "_image_to_text": is_closer[0] & is_closer[1],
            "_text_only": _are_closer_to_each_other(texts, captions, negatives),
        }
    kinds = np.array([example.kind for example in examples])
    per_image: dict[str, MetricValues] = {}
    means: dict[str, float] = {}
    for task, is_right in tasks.items():
        of_kinds = _by_kind(kinds, is_right, image_of.numpy(), len(images))
        per_image |= {f"{kind}{task}": values for kind, values in of_kinds.items()}
        means[f"mean{task}"] = float(np.mean([share(values) for values in of_kinds.values()]))
    return Measurement(
        {
            **{name: share(values) for name, values in per_image.items()},
            **means,
            "examples": {str(kind): int((kinds == kind).sum()) for kind in np.unique(kinds)},
            "images": len(np.unique(image_of.numpy())),
        },
        per_image,
    )


def _by_kind(
    kinds: NDArray[np.str_], is_right: NDArray[np.bool_], image_of: NDArray[np.int64], count: int
) -> dict[str, MetricValues]:
    return {str(kind): by_image(is_right[kinds == kind], image_of[kinds == kind], count) for kind in np.unique(kinds)}


def _are_closer_to_each_other(
    texts: torch.Tensor, captions: torch.Tensor, negatives: torch.Tensor
) -> NDArray[np.bool_]:
    """Whether two captions [E, 2] are closer to each other than either is to the wrong caption [E]."""
    to_each_other = similarities(texts, texts, captions[:, 0], captions[:, 1])
    are_closer: NDArray[np.bool_] = (
        torch.stack([to_each_other > similarities(texts, texts, column, negatives) for column in captions.T])
        .all(dim=0)
        .numpy()
    )
    return are_closer
