"""The rewrites that stand in for a set's captions: accepted rewrites of the same caption, from one rewrite set."""

from collections.abc import Mapping, Sequence

import torch

from laclip_ray.data.records import hash_caption
from laclip_ray.evaluation.features.reading import TextFeatures
from laclip_ray.evaluation.pairs import embed_unique
from laclip_ray.evaluation.wording.paraphrases import Rewrites
from laclip_ray.rewriting.storing.sets import SetSelection, readable_sets


def rewrites_by_caption(location: str, gate: str) -> dict[str, str]:
    """The first accepted rewrite of each caption of a rewrite set, by the caption's hash.

    Args:
        location: the rewrite set.
        gate: the fingerprint of the gate whose verdicts count.

    Raises:
        UserError: the set does not exist, has no verdicts of this gate, or a file is damaged.
    """
    (rewrite_set,) = readable_sets(SetSelection((location,), gate))
    found: dict[str, str] = {}
    for shard in sorted(rewrite_set.committed_revisions()):
        for (_, caption_hash), texts in (rewrite_set.accepted(shard) or {}).items():
            if texts:
                found.setdefault(caption_hash, texts[0])
    return found


def rewrites_of(captions: Sequence[str], by_caption: Mapping[str, str]) -> list[str | None]:
    """The rewrite of each caption; None without one."""
    return [by_caption.get(hash_caption(caption)) for caption in captions]


def embed_rewrites(rewrites: Sequence[str | None], texts: TextFeatures) -> Rewrites:
    """The embeddings of the rewrites of C captions. Rewrites of the same tokens have one."""
    has_rewrite = torch.tensor([rewrite is not None for rewrite in rewrites])
    embeddings, numbers = embed_unique([rewrite for rewrite in rewrites if rewrite is not None], texts)
    tokens = torch.full((len(rewrites),), -1)
    tokens[has_rewrite] = numbers
    return Rewrites(embeddings, tokens)
