"""Arrow schemas, outcomes, and the records that rewriting moves and stores; imports no Ray.

`DRAWS_SCHEMA` and `VERDICTS_SCHEMA` are on disk, one file per shard. The other schemas are in flight: `STREAM_SCHEMA`
is the row that travels read -> generate -> commit, `SAMPLES_SCHEMA` and `MADE_SCHEMA` are the tables inside that row,
and `REPORT_SCHEMA` is what commit tells the driver.

A rewrite's number is its `slot` in the code; on disk the column is `draw`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from laclip_ray.config import MAX_REWRITES_PER_SET

DRAWN = "drawn"
"""The outcome of a slot with text. Every other outcome is a reason without text: these, or one of `NO_CAPTION`."""
CAPTION_TOO_LONG = "caption_too_long"
NOTHING_TO_REWRITE = "nothing_to_rewrite"
"""The caption has no word. The gate refuses texts for it by the same name."""
PROMPT_TOO_LONG = "prompt_too_long"
REQUEST_REFUSED = "request_refused"
"""The engine refused this prompt, for another reason than its length."""
REQUEST_FAILED = "request_failed"
"""The engine gave up on this prompt."""
ENGINE_DIED = "engine_died"
FAILED_REQUESTS = (PROMPT_TOO_LONG, REQUEST_REFUSED, REQUEST_FAILED, ENGINE_DIED)
GATE_FAILED = "gate_failed"
"""The reason of a text that the gate could not judge."""

TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")

SCORES = ("meaning", "added", "picture", "caption_picture")
"""The scores that gates store with their verdicts; see `VERDICTS_SCHEMA`."""
LOG_PROBABILITY = "log_probability"
"""The score that the engine gives; it is stored with the draw."""

DRAWS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("caption_hash", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("problems", pa.string(), nullable=False),
        pa.field("draw", pa.int16(), nullable=False),
        pa.field("attempt", pa.int16(), nullable=False),
        pa.field("head", pa.int16()),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("truncated", pa.bool_(), nullable=False),
        *(pa.field(name, pa.int32(), nullable=False) for name in TOKENS),
        pa.field(LOG_PROBABILITY, pa.float32()),
    ]
)
"""A row per draw, on disk; rows in the order of sample, slot, attempt. Commit and import write it.

    id               string   the sample's id
    caption_hash     string   hash of the caption (`hash_caption`)
    caption          string   the original caption; empty if the sample has no caption
    problems         string   comma-separated problems of the sample (`data.records`); empty: no problem
    draw             int16    the slot, from 0
    attempt          int16    0, and one more each time the slot is drawn again
    head             int16    the prompt head; null: imported, so the prompt is not known
    outcome          string   `DRAWN`, or why the slot has no text
    text             string   the completion; null unless the outcome is `DRAWN`
    truncated        bool     whether the token limit cut the text off
    prompt_tokens    int32    tokens of the prompt, counted once per request: 0 in all other rows of equal captions
    cached_tokens    int32    of them, tokens found in the prefix cache
    output_tokens    int32    tokens of the text; 0 in rows that share another sample's draw, and in imports
    log_probability  float32  mean natural log-probability of the text's tokens; null: no text, imported, or written by
                              an earlier version
"""

VERDICTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("caption_hash", pa.string(), nullable=False),
        pa.field("draw", pa.int16(), nullable=False),
        pa.field("attempt", pa.int16(), nullable=False),
        pa.field("reason", pa.string()),
        *(pa.field(name, pa.float32()) for name in SCORES),
    ]
)
"""A row per draw, on disk; same rows and order as the shard's draws. Commit and import write it.

    id, caption_hash, draw, attempt  as in `DRAWS_SCHEMA`
    reason           string   why the gate refused the draw, or the outcome of a slot without text; null: accepted
    meaning          float32  similarity of caption and rewrite by a sentence encoder; higher is better
    added            float32  how far the rewrite's words are from anything in the caption; lower is better
    picture          float32  cosine similarity of rewrite and picture, by the picture gate
    caption_picture  float32  cosine similarity of caption and picture, by the picture gate

A score is null where the gate did not compute it.
"""

MEANING_SCORES = ("meaning", "added")
"""The scores of the meaning gate."""

SCORED_DRAWS_SCHEMA = pa.schema([*DRAWS_SCHEMA, *(VERDICTS_SCHEMA.field(name) for name in MEANING_SCORES)])
"""Draws in memory, with the known scores.

    id, caption_hash, caption, problems, draw, attempt, head, outcome, text, truncated, prompt_tokens, cached_tokens,
    output_tokens, log_probability  as in `DRAWS_SCHEMA`
    meaning, added                  as in `VERDICTS_SCHEMA`; null: the draw must be scored if its text is accepted
"""

SAMPLES_SCHEMA = pa.schema(
    [
        *(DRAWS_SCHEMA.field(name) for name in ("id", "caption_hash", "caption", "problems", "head", "outcome")),
        pa.field("slots", pa.int64(), nullable=False),
        pa.field("attempt", pa.int16(), nullable=False),
        pa.field("others", pa.string()),
    ]
)
"""A row per sample of a shard, in the shard's order. Read writes it; generate and commit read it.

    id, caption_hash, caption, problems, head  as in `DRAWS_SCHEMA`; head is never null
    outcome  string  `DRAWN` if the engine shall be asked, else why not
    slots    int64   the slots to draw, as bits (`slot_bits`; reading list columns is slow)
    attempt  int16   number of the first attempt: 0 for new samples, else one after the last attempt of the sample
    others   string  JSON list of the sample's accepted rewrites in other slots; null: none
"""

MADE_SCHEMA = pa.schema(
    [
        ("row", pa.int32()),
        *(DRAWS_SCHEMA.field(name) for name in ("draw", "attempt", "outcome", "text", "truncated", *TOKENS)),
        ("reason", pa.string()),
        DRAWS_SCHEMA.field(LOG_PROBABILITY),
        *(VERDICTS_SCHEMA.field(name) for name in MEANING_SCORES),
    ]
)
"""A row per draw of a shard, in the order of sample, slot, attempt. Generate writes it; commit reads it. Pieces of a
suspect shard are kept in storage as such tables until the shard is committed (`attempts`).

    row     int32   the sample's row in its `SAMPLES_SCHEMA` table
    draw, attempt, outcome, text, truncated, prompt_tokens, cached_tokens, output_tokens  as in `DRAWS_SCHEMA`
    reason  string  why the gate refused the draw, or the outcome of a slot without text; null: accepted
    log_probability  as in `DRAWS_SCHEMA`
    meaning, added   as in `VERDICTS_SCHEMA`
"""

_IN_PIECES_KEY = b"laclip_ray.in_pieces"
"""Metadata of a `MADE_SCHEMA` table."""

STREAM_SCHEMA = pa.schema(
    [
        ("unit", pa.string()),
        ("origin", pa.string()),
        ("samples", pa.large_binary()),
        ("made", pa.large_binary()),
        ("failure", pa.string()),
        ("engine_start_failure", pa.string()),
        ("engine", pa.string()),
        ("engine_s", pa.float64()),
        ("engine_work", pa.string()),
    ]
)
"""The row that travels read -> generate -> commit: one shard's work for one prompt set. Its tables are Arrow streams in
binary columns, so Ray Data cannot split them.

    column                type          written by      content; when null
    unit                  string        read            JSON of a `WorkUnit`; never null
    origin                string        read            JSON of an `Origin`; null: read failed, or the draws are in
                                                        storage and only their verdicts are missing
    samples               large_binary  read            a `SAMPLES_SCHEMA` table; null: as origin
    made                  large_binary  generate        a `MADE_SCHEMA` table; null: as origin, or generate failed
    failure               string        read, generate  why the unit is given up; null: it is not
    engine_start_failure  string        generate        why the actor has no engine; the unit goes back to the others.
                                                        null: the actor has one, or the row passed no actor
    engine                string        generate        id of the actor; null: the row passed no actor, or read failed
    engine_s              float64       generate        seconds of the actor's life since its last row (its start for
                                                        the first); 0 where engine is null; never null
    engine_work           string        generate        JSON of an `EngineWork`; null where engine is null
"""

REPORT_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("prompt_set", pa.string()),
        ("failure", pa.string()),
        ("engine_start_failure", pa.string()),
        ("engine", pa.string()),
        ("captions", pa.int64()),
        ("accepted", pa.int64()),
        ("unfilled", pa.string()),
        ("gpu_s", pa.float64()),
        ("engine_work", pa.string()),
    ]
)
"""A row per unit that passed commit. Commit writes it; the driver reads it.

    shard, prompt_set             string   of the `WorkUnit`; never null
    failure                       string   as in `STREAM_SCHEMA`, or why commit failed; null: committed
    engine_start_failure, engine  string   as in `STREAM_SCHEMA`
    captions                      int64    captions of the shard; 0 unless committed
    accepted                      int64    accepted rewrites of the shard; 0 unless committed
    unfilled                      string   JSON object: slots without an accepted rewrite, by reason; empty unless
                                           committed
    gpu_s                         float64  `engine_s` times the GPUs of an engine
    engine_work                   string   as in `STREAM_SCHEMA`
"""


@dataclass(frozen=True, slots=True)
class Origin:
    """The input of a shard's draws, and the time they took."""

    file_identity: str
    """Distinguishes the shard's file from a replacement (`storage.identity`)."""
    inputs: str
    """A digest of the ids and captions."""
    rewrites_per_set: int
    engine_s: float = 0.0
    """Seconds of engines' lives."""
    gpu_s: float = 0.0
    """`engine_s` times the GPUs of an engine."""
    draws_id: str = ""
    """Distinguishes these draws from draws that another run wrote to the same file; their verdicts repeat it."""
    reading: Mapping[str, Any] | None = None
    """How the shard was read (`data.reading`). None: written by an earlier version, so it is not known."""

    def to_json(self) -> str:
        """The JSON object kept in file metadata and sent with a stream row."""
        content = asdict(self)
        if self.reading is None:
            del content["reading"]
        # Stored files call the file's identity `source`.
        return json.dumps({"source": content.pop("file_identity"), **content})

    @classmethod
    def from_json(cls, text: str | bytes) -> "Origin":
        """The inverse of `to_json`."""
        content = json.loads(text)
        return cls(content.pop("source"), **content)


@dataclass(frozen=True, slots=True)
class WorkUnit:
    """The work of one shard for one prompt set."""

    prompt_set: str
    shard: str
    revision: int
    """The revision that the draws go to, or are in."""
    previous: int | None = None
    """The revision whose draws are kept and added to."""
    retry: tuple[str, ...] = ()
    """Reasons whose rewrites are drawn again."""
    cut_from: tuple[tuple[str, int], ...] = ()
    """Other shards of the file, each with a revision, whose draws are kept too: they held rows of this shard when the
    file was cut into other ranges."""

    def to_json(self) -> str:
        """The JSON object in a stream row."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "WorkUnit":
        """The inverse of `to_json`."""
        content = json.loads(text)
        cut_from = tuple((shard, revision) for shard, revision in content["cut_from"])
        return cls(**{**content, "retry": tuple(content["retry"]), "cut_from": cut_from})


def stream_row(
    unit: WorkUnit,
    origin: Origin | None = None,
    samples: pa.Table | None = None,
    failure: str | None = None,
) -> pa.Table:
    """A stream row as read writes it: a table of `STREAM_SCHEMA` with one row."""
    row = {
        "unit": unit.to_json(),
        "origin": origin.to_json() if origin else None,
        "samples": table_to_bytes(samples) if samples is not None else None,
        "made": None,
        "failure": failure,
        "engine_start_failure": None,
        "engine": None,
        "engine_s": 0.0,
        "engine_work": None,
    }
    return pa.Table.from_pylist([row], schema=STREAM_SCHEMA)


def made_in_pieces(parts: Sequence[pa.Table]) -> pa.Table:
    """The draws of a shard that was drawn piece by piece (`attempts`), from the `MADE_SCHEMA` tables of its pieces."""
    return pa.concat_tables(parts).replace_schema_metadata({_IN_PIECES_KEY: b"yes"})


def is_in_pieces(made: pa.Table) -> bool:
    """Whether a shard was drawn piece by piece. Then storage keeps the pieces until the shard is committed."""
    return _IN_PIECES_KEY in (made.schema.metadata or {})


def origin_of(row: Mapping[str, Any]) -> Origin:
    """The origin in a stream row."""
    return Origin.from_json(row["origin"])


def slot_bits(slots: Iterable[int]) -> int:
    """Slots (each below `MAX_REWRITES_PER_SET`) as the bits of an integer.

    >>> slot_bits([0, 2])
    5
    """
    return sum(1 << slot for slot in slots)


def slot_numbers(bits: int) -> tuple[int, ...]:
    """The inverse of `slot_bits`, in ascending order."""
    return tuple(slot for slot in range(MAX_REWRITES_PER_SET) if bits >> slot & 1)


def with_columns_of(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns of a schema that it lacks, all null: files of earlier versions lack the scores."""
    for field in schema:
        if field.nullable and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table


def table_to_bytes(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def table_from_bytes(content: bytes) -> pa.Table:
    """The inverse of `table_to_bytes`."""
    return pa.ipc.open_stream(content).read_all()
