"""Arrow schemas, outcome names, and (de)serialising of the rows that rewriting moves and stores; no Ray."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from laclip_ray.config import MAX_REWRITES_PER_SET

DRAWN = "drawn"

CAPTION_TOO_LONG = "caption_too_long"

PROMPT_TOO_LONG = "prompt_too_long"

REQUEST_REFUSED = "request_refused"
"""The engine does not take this prompt, for another reason than its length."""

REQUEST_FAILED = "request_failed"
"""The engine gave up on this prompt."""

ENGINE_DIED = "engine_died"

FAILED_REQUESTS = (PROMPT_TOO_LONG, REQUEST_REFUSED, REQUEST_FAILED, ENGINE_DIED)

TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")

DRAWS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("caption_hash", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("problems", pa.string(), nullable=False),  # comma-separated names of data.shards
        pa.field("draw", pa.int16(), nullable=False),  # which of the rewrites asked for this is meant to be
        pa.field("attempt", pa.int16(), nullable=False),  # 0, and one more for each draw in place of a rejected one
        pa.field("head", pa.int16()),
        pa.field("outcome", pa.string(), nullable=False),  # DRAWN, or why there is no text
        pa.field("text", pa.string()),
        pa.field("truncated", pa.bool_(), nullable=False),
        *(pa.field(name, pa.int32(), nullable=False) for name in TOKENS),
    ]
)

VERDICTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("caption_hash", pa.string(), nullable=False),
        pa.field("draw", pa.int16(), nullable=False),
        pa.field("attempt", pa.int16(), nullable=False),
        pa.field("reason", pa.string()),  # null: accepted
    ]
)


@dataclass(frozen=True)
class Origin:
    """What a shard's draws were made from, and what that took."""

    file_identity: str
    """What told the shard's file from a replacement (`storage.identity`)."""
    inputs: str
    """A digest of the ids and captions."""
    rewrites_per_set: int
    engine_s: float = 0.0
    """Seconds of engines' lives."""
    gpu_s: float = 0.0
    """`engine_s` times the GPUs of an engine."""
    draws_id: str = ""
    """What tells these draws from those that another run may have written in their place; verdicts repeat it."""

    def to_json(self) -> str:
        """The JSON object kept in file metadata and sent with a stream row."""
        content = asdict(self)
        # Stored files call the file's identity `source`.
        return json.dumps({"source": content.pop("file_identity"), **content})

    @classmethod
    def from_json(cls, text: str | bytes) -> "Origin":
        """The inverse of `to_json`."""
        content = json.loads(text)
        return cls(content.pop("source"), **content)


@dataclass(frozen=True)
class WorkUnit:
    """The work of one shard for one prompt set."""

    prompt_set: str
    shard: str
    revision: int
    """Where the draws go, or are."""
    previous: int | None = None
    """The revision whose draws are kept and added to."""
    retry: tuple[str, ...] = ()
    """Reasons whose rewrites are drawn again."""

    def to_json(self) -> str:
        """As it travels in a row of the stream."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "WorkUnit":
        """The inverse of `to_json`."""
        content = json.loads(text)
        return cls(**{**content, "retry": tuple(content["retry"])})


SAMPLES_SCHEMA = pa.schema(
    [
        *(DRAWS_SCHEMA.field(name) for name in ("id", "caption_hash", "caption", "problems", "head", "outcome")),
        pa.field("draws", pa.int64(), nullable=False),  # what is to be drawn, a bit each (lists are slow to read)
        pa.field("attempt", pa.int16(), nullable=False),  # the number of the first attempt
        pa.field("others", pa.string()),  # JSON list of accepted rewrites that there are already; null: none
    ]
)
"""What the actor is given of a shard, a row a sample."""

MADE_SCHEMA = pa.schema(
    [
        ("row", pa.int32()),  # of the sample in its table
        *(DRAWS_SCHEMA.field(name) for name in ("draw", "attempt", "outcome", "text", "truncated", *TOKENS)),
        ("reason", pa.string()),
    ]
)
"""What the actor gives, a row a draw, those of a sample together."""

STREAM_SCHEMA = pa.schema(
    [
        ("unit", pa.string()),  # JSON of a `WorkUnit`
        ("origin", pa.string()),  # JSON of an `Origin`; null where the shard was not read
        ("samples", pa.large_binary()),
        ("made", pa.large_binary()),
        ("failure", pa.string()),
        ("engine_start_failure", pa.string()),
        ("engine", pa.string()),
        ("engine_s", pa.float64()),
    ]
)


def stream_row(
    unit: WorkUnit,
    origin: Origin | None = None,
    samples: pa.Table | None = None,
    failure: str | None = None,
) -> pa.Table:
    """A row of the stream, or the failure why there is none."""
    row = {
        "unit": unit.to_json(),
        "origin": origin.to_json() if origin else None,
        "samples": table_bytes(samples) if samples is not None else None,
        "made": None,
        "failure": failure,
        "engine_start_failure": None,
        "engine": None,
        "engine_s": 0.0,
    }
    return pa.Table.from_pylist([row], schema=STREAM_SCHEMA)


def origin_of(row: Mapping[str, Any]) -> Origin:
    """The origin in a row of the stream."""
    return Origin.from_json(row["origin"])


def slot_bits(numbers: Iterable[int]) -> int:
    """Numbers of draws (below `MAX_REWRITES_PER_SET`) as the bits of an integer."""
    return sum(1 << number for number in numbers)


def slot_numbers(bits: int) -> tuple[int, ...]:
    """The inverse of `slot_bits`, in ascending order."""
    return tuple(number for number in range(MAX_REWRITES_PER_SET) if bits >> number & 1)


def table_of(content: bytes) -> pa.Table:
    """A table in a row of the stream."""
    return pa.ipc.open_stream(content).read_all()


def table_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


REPORT_SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("prompt_set", pa.string()),
        ("failure", pa.string()),
        ("engine_start_failure", pa.string()),
        ("engine", pa.string()),
        ("captions", pa.int64()),
        ("accepted", pa.int64()),
        ("gpu_s", pa.float64()),
    ]
)
