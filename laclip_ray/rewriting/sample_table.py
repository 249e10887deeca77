"""The table of captions and rewrites that trackers get: a sample of accepted and refused draws, with their scores."""

from collections.abc import Mapping, Sequence

from laclip_ray.config import DataConfig, TrackConfig
from laclip_ray.data.sample_pictures import ROWS, PlacedKey, pictures_of
from laclip_ray.rewriting.shown_draws import Caption, add_draws, choose, choose_shards
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.tracking.tracker import Cell, Picture, Table

NAME = "samples"
ACCEPTED = "accepted"
SHARDS_READ = 4
"""Shards that draws are taken from."""
_TEXT_COLUMNS = ("id", "caption", "rewrite", "prompt_set", "outcome")


def sample_table(
    committed: Mapping[RewriteSet, Mapping[str, int]],
    data: DataConfig,
    data_shards: int,
    output: str,
    track: TrackConfig,
    seed: int,
) -> Table | None:
    """A table of draws, several of one caption beside each other; None if no shard is committed, or none is wanted.

    Args:
        committed: of each rewrite set, the newest revisions of its shards, or of those by `choose_shards`.
        data: where the pictures are.
        data_shards: how many shards it has, about.
        output: `output` of the experiment.
        track: how many rows, and whether with pictures.
        seed: decides which captions.

    Raises:
        UserError: a file is damaged.
        OSError: the storage refuses.
    """
    if not track.sample_rows:
        return None
    shards = {shard for revisions in committed.values() for shard in revisions}
    captions: dict[PlacedKey, Caption] = {}
    for shard in choose_shards(shards, SHARDS_READ, seed):
        for rewrite_set, revisions in committed.items():
            if shard in revisions:
                add_draws(captions, rewrite_set.read(shard, revisions[shard]), shard, rewrite_set.name, ROWS)
    if not captions:
        return None
    draws = sum(len(caption.draws) for caption in captions.values())
    shown = choose([*captions.values()], -(-track.sample_rows * len(captions) // draws), seed)
    pictures: Mapping[PlacedKey, bytes] = {}
    if track.pictures and {*track.report_to} - {"tensorboard"}:
        pictures, _ = pictures_of(data, output, [caption.key for caption in shown], data_shards)
    return _table(shown, pictures, track.sample_rows)


def _table(captions: Sequence[Caption], pictures: Mapping[PlacedKey, bytes], most_rows: int) -> Table:
    draws = [(caption, draw) for caption in captions for draw in caption.draws][:most_rows]
    scores = list(dict.fromkeys(score for _, draw in draws for score in draw.scores))
    rows: list[list[Cell]] = []
    for caption, draw in draws:
        texts = (caption.key[1], caption.text, draw.text, draw.prompt_set, draw.reason or ACCEPTED)
        picture = [_picture(pictures.get(caption.key))] if pictures else []
        rows.append([*picture, *texts, *(draw.scores.get(score) for score in scores)])
    columns = (*(("picture",) if pictures else ()), *_TEXT_COLUMNS, *(f"score_{score}" for score in scores))
    return Table(NAME, columns, rows)


def _picture(jpeg: bytes | None) -> Picture | None:
    return Picture(jpeg) if jpeg else None
