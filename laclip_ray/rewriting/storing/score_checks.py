"""Do rewrite sets hold the scores that a run's texts depend on?"""

import logging
from collections.abc import Iterable, Mapping, Sequence

from laclip_ray.errors import UserError
from laclip_ray.rewriting.storing.committed import Committed
from laclip_ray.rewriting.storing.matching import of_present_shards
from laclip_ray.rewriting.storing.sets import RewriteSets
from laclip_ray.rewriting.tables import LOG_PROBABILITY

logger = logging.getLogger(__name__)

_FROM_GATE = "Run `laclip rewrite` with this config, which judges the stored texts again without the language model"
_FROM_ENGINE = "Only texts drawn by `laclip rewrite` of this version have it, and imported texts never do"


def check_scores(
    scores: Mapping[str, str],
    rewrites: RewriteSets,
    described: Sequence[Mapping[str, Committed]],
    shard_names: Iterable[str],
) -> None:
    """Refuse a score that no accepted rewrite has, and warn about rewrites without it.

    Args:
        scores: by config key, the name of a stored score (`TextConfig.scores`).
        rewrites: the sets that training reads.
        described: of each set, the metadata of its committed shards, by the names in storage.
        shard_names: the data's shards.

    Raises:
        UserError: with the key.
    """
    names = list(shard_names) if scores else []
    statistics = [
        [committed.statistics for committed in of_present_shards(of_set, names).values()] for of_set in described
    ]
    for key, score in scores.items():
        lacking = {}
        for rewrite_set, shards in zip(rewrites.sets, statistics, strict=True):
            # A slot may have several accepted draws, so more draws may have a score than rewrites are shown.
            without = sum(max(0, shard.accepted - shard.scored[score]) for shard in shards)
            if without:
                lacking[rewrite_set.location] = f"{without:,} of {sum(shard.accepted for shard in shards):,}"
        if lacking and not any(shard.scored[score] for shards in statistics for shard in shards):
            remedy = _FROM_ENGINE if score == LOG_PROBABILITY else _FROM_GATE
            raise UserError(
                f"{key}: no accepted rewrite in {', '.join(lacking)} has the score {score}. {remedy}; or choose "
                "another score"
            )
        for location, share in lacking.items():
            logger.warning(
                "%s: %s accepted rewrites have no score %s (%s); those shown are counted as unscored",
                location, share, score, key,
            )  # fmt: skip
