"""Embedded images and captions of a retrieval set, joined."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from laclip_ray.evaluation.captioned import CaptionedImage
from laclip_ray.evaluation.features.reading import TextFeatures, normalised
from laclip_ray.evaluation.retrieval import Pairs


@dataclass
class CaptionedSet:
    """The usable images and captions of a set, in order. The images are embedded, the captions are not."""

    embeddings: list[np.ndarray] = field(default_factory=list)
    """For each image, float32 [D]."""
    pictures: list[int] = field(default_factory=list)
    """For each image, the number of its content."""
    captions: list[str] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    """For each caption, its image."""
    ids: list[str] = field(default_factory=list)
    """For each image, the id of its first row."""
    row_ids: list[str] = field(default_factory=list)
    """For each caption, the id of its row."""


def collect_captioned(rows: Iterable[CaptionedImage]) -> CaptionedSet:
    """Gather the rows of a set; images begin in the order of their numbers."""
    found = CaptionedSet()
    for row in rows:
        if row.embedding is not None:
            assert row.image == len(found.pictures)
            found.embeddings.append(row.embedding)
            found.pictures.append(row.picture)
            found.ids.append(row.id)
        found.captions.extend(row.captions)
        found.owners.extend([row.image] * len(row.captions))
        found.row_ids.extend([row.id] * len(row.captions))
    return found


def embed_unique(texts: Sequence[str], features: TextFeatures) -> tuple[torch.Tensor, torch.Tensor]:
    """The embeddings of N texts. Texts of the same tokens have one.

    Returns:
        float32 [T, D], normalised; and each text's row, int64 [N].
    """
    numbers: dict[bytes, int] = {}
    rows: list[int] = []
    of_texts = []
    for text in texts:
        row = features.number_of[text]
        number = numbers.setdefault(features.tokens[row], len(rows))
        if number == len(rows):
            rows.append(row)
        of_texts.append(number)
    places = torch.tensor(of_texts, dtype=torch.int64)
    if len(rows) == len(features.embeddings):  # each has a row: no copy, which a large set has no room for
        return torch.from_numpy(features.embeddings), torch.tensor(rows, dtype=torch.int64)[places]
    return torch.from_numpy(features.embeddings[rows]), places


def embed_pairs(found: CaptionedSet, texts: TextFeatures) -> Pairs:
    """The set with its captions' embeddings. Captions of the same tokens have one."""
    embeddings, tokens = embed_unique(found.captions, texts)
    return Pairs(
        images=torch.from_numpy(normalised(np.stack(found.embeddings))),
        pictures=torch.tensor(found.pictures, dtype=torch.int64),
        texts=embeddings,
        tokens=tokens,
        owners=torch.tensor(found.owners, dtype=torch.int64),
        captions=found.captions,
    )
