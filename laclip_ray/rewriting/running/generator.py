"""The generator: a table of samples in, a table of draws out. It needs an engine and storage, but neither Ray nor vLLM.

Guarantees: equal captions of a shard are generated once. The gate judges each draw; a refused draw is drawn again, a
bounded number of times. If the engine cannot answer a prompt, the reason becomes the caption's outcome; only the
engine's death ends the shard. Each attempt is recorded in storage before the engine sees the captions, so the next
attempt finds the caption that kills engines (`attempts`).

Not covered: starting engines and replacing dead ones (`actor`).
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa

from laclip_ray import storage
from laclip_ray.config import CompletionRule, RewriteConfig
from laclip_ray.printable import printable_line
from laclip_ray.rewriting import tables
from laclip_ray.rewriting.draws import judge_text
from laclip_ray.rewriting.engines.engine import Answer, Completion, Engine, EngineDiedError, RequestError
from laclip_ray.rewriting.judging.gate import Gate
from laclip_ray.rewriting.judging.meaning import MeaningScores, refusal
from laclip_ray.rewriting.prompting.completions import is_cut, parse_completion, reference_completion
from laclip_ray.rewriting.prompting.prompts import Head
from laclip_ray.rewriting.recipe import fingerprint_of
from laclip_ray.rewriting.row_errors import FirstErrors, is_request_to_stop, one_line
from laclip_ray.rewriting.running.drawn_work import DrawnWork
from laclip_ray.rewriting.scoring.meaning_verdicts import MeaningGate
from laclip_ray.rewriting.storing.attempts import (
    MAX_FAILED_CAPTIONS,
    AttemptLog,
    Piece,
    attempts_url,
    piece_url,
    read_attempts,
    remove_pieces,
    write_attempts,
)
from laclip_ray.rewriting.storing.store import RewriteSet
from laclip_ray.rewriting.tables import (
    MADE_SCHEMA,
    SAMPLES_SCHEMA,
    Origin,
    WorkUnit,
    made_in_pieces,
    slot_numbers,
    table_from_bytes,
    table_to_bytes,
    with_columns_of,
)

logger = logging.getLogger(__name__)

REQUESTS_IN_FLIGHT = 1024
"""Requests of one shard in flight: more than an engine runs at once, so its queue never runs dry."""


_NO_SCORES = (None,) * len(MeaningScores._fields)


class EncoderError(Exception):
    """The encoders of the meaning gate gave no scores. The message says why."""


class ShardGivenUpError(Exception):
    """Too many captions of a shard killed their engines. The message says what to do."""


def useful_redraws(rewrite: RewriteConfig) -> int:
    """How often a refused draw is drawn again: never with greedy sampling, which would repeat the text."""
    return rewrite.redraws if rewrite.sampling.temperature else 0


class _Draw(NamedTuple):
    slot: int
    attempt: int
    text: str
    truncated: bool
    output_tokens: int
    reason: str | None
    log_probability: float | None
    scores: MeaningScores | None


@dataclass(slots=True)
class _Request:
    """A caption to rewrite, for all samples of the shard with this caption."""

    caption: str
    head: int
    slots: tuple[int, ...]
    attempt: int
    """Number of the first attempt."""
    others: tuple[str, ...]
    """Accepted rewrites of earlier revisions."""
    rows: list[int]
    """Rows of the samples in the shard."""
    outcome: str
    draws: list[_Draw] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0


class _Turns:
    """Lets shards share the engine, or gives one suspect shard the engine alone."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._in_flight = 0
        self._suspects = 0
        """Suspect shards that wait or run. Until they are done, no other shard begins."""

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        """Run the body beside other shards."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._suspects == 0)
            self._in_flight += 1
        try:
            yield
        finally:
            await self._leave(suspects=0)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Run the body with no other shard in flight."""
        async with self._changed:
            self._suspects += 1
            await self._changed.wait_for(lambda: self._in_flight == 0)
            self._in_flight += 1
        try:
            yield
        finally:
            await self._leave(suspects=1)

    async def _leave(self, suspects: int) -> None:
        async with self._changed:
            self._in_flight -= 1
            self._suspects -= suspects
            self._changed.notify_all()


@dataclass(frozen=True, eq=False)
class ShardGenerator:
    """Draws the rewrites of shards with one engine."""

    engine: Engine
    heads: Mapping[str, Sequence[Head]]
    """By prompt set, the prompt heads that samples refer to by number."""
    gates: Mapping[str, Gate]
    """By prompt set."""
    sets: Mapping[str, RewriteSet]
    """By prompt set. Attempts are recorded in the rewrite set's directory."""
    redraws: int
    """How often a refused draw is drawn again."""
    max_engine_deaths: int
    """Engines that one caption may kill alone; with the last one the caption has failed."""
    run: str
    """Names the driver's run."""
    node: str
    """Ray's id of this node."""
    alive_nodes: Callable[[], Collection[str]]
    """Gives Ray's ids of the nodes that are alive and stay. An engine's death on another node blames no caption."""
    meaning: MeaningGate | None = None
    """Judges the meaning of texts that the gates accept. None: off."""
    completions: CompletionRule = "normalised"
    """How a rewrite is taken from a completion (`RewriteConfig.completions`)."""
    work: DrawnWork = field(default_factory=DrawnWork)
    """Counts draws, for people who watch."""
    _turns: _Turns = field(default_factory=_Turns, init=False, repr=False)
    _errors: FirstErrors = field(default_factory=FirstErrors, init=False, repr=False)

    async def generate(self, unit: WorkUnit, origin: Origin, samples: pa.Table) -> pa.Table:
        """Draw the rewrites of one unit. Several calls may be in flight.

        Args:
            unit: the shard and its prompt set.
            origin: the origin of `samples`. Pieces of another origin, kept by earlier attempts, are removed.
            samples: a table of `SAMPLES_SCHEMA`, a row a sample.

        Returns:
            A table of `MADE_SCHEMA`, a row a draw. The draws of a sample stand together, in the order of `samples`.

        Raises:
            EngineDiedError: the engine died. The attempt stays recorded for the next one.
            ShardGivenUpError: too many captions killed their engines.
            EncoderError: the meaning gate gave no scores.
        """
        try:
            return await self._generate(unit, origin, samples)
        finally:
            self.work.end(unit_name(unit))

    async def _generate(self, unit: WorkUnit, origin: Origin, samples: pa.Table) -> pa.Table:
        url = attempts_url(self.sets[unit.prompt_set].location, unit.shard)
        log = await self._read_log(unit, origin, url)
        if not log.pieces:
            async with self._turns.shared():
                await self._begin(log, url, 0, samples.num_rows)
                made = await self._draw(unit, samples)
            await asyncio.to_thread(write_attempts, url, AttemptLog())
            return made
        if len(log.failed) > MAX_FAILED_CAPTIONS:
            await asyncio.to_thread(write_attempts, url, log)
            raise ShardGivenUpError(
                f"more than {MAX_FAILED_CAPTIONS} of its captions killed their engines; look at the engine first. "
                f"To try again, remove {printable_line(url.removesuffix('.json'))}.*"
            )
        async with self._turns.alone():
            parts = [await self._draw_piece(unit, samples, piece, log, url) for piece in log.pieces]
        await asyncio.to_thread(write_attempts, url, log)
        return made_in_pieces(parts)

    async def _read_log(self, unit: WorkUnit, origin: Origin, url: str) -> AttemptLog:
        """The shard's attempts at this work, without an attempt in progress."""
        rewrite_set = self.sets[unit.prompt_set]
        work = fingerprint_of({"origin": origin.to_json(), "unit": unit.to_json(), "gate": rewrite_set.gate})
        log = await asyncio.to_thread(read_attempts, url)
        if log.work != work:
            await asyncio.to_thread(remove_pieces, rewrite_set.location, unit.shard, log)
            return AttemptLog(work)
        if log.attempt is None:
            return log
        return log.settle(self.run, self.alive_nodes(), self.max_engine_deaths)

    async def _begin(self, log: AttemptLog, url: str, start: int, stop: int) -> None:
        await asyncio.to_thread(write_attempts, url, log.begin(self.run, self.node, start, stop))

    async def _draw_piece(self, unit: WorkUnit, samples: pa.Table, piece: Piece, log: AttemptLog, url: str) -> pa.Table:
        """Draw one piece of a suspect shard; a finished piece comes from storage."""
        kept_url = piece_url(self.sets[unit.prompt_set].location, unit.shard, log, piece)
        if (kept := await asyncio.to_thread(_read_kept, kept_url)) is not None:
            return kept
        part = samples.slice(piece.start, piece.stop - piece.start)
        if piece.start in log.failed and piece.stop - piece.start == 1:
            outcome = pa.array([tables.ENGINE_DIED], pa.string())
            part = part.set_column(part.schema.get_field_index("outcome"), SAMPLES_SCHEMA.field("outcome"), outcome)
            name = f"{unit.prompt_set}/{unit.shard}: {part.column('id')[0]}"
            logger.error("%s killed its engine", printable_line(name))
        else:
            await self._begin(log, url, piece.start, piece.stop)
        made = await self._draw(unit, part, first_row=piece.start)
        await asyncio.to_thread(storage.write_bytes, kept_url, table_to_bytes(made))
        return made

    async def _draw(self, unit: WorkUnit, samples: pa.Table, first_row: int = 0) -> pa.Table:
        """Draw samples; the first one is row `first_row` of its shard."""
        requests = _build_requests(samples, first_row)
        # Captions that share a request, or need none, count as well.
        self.work.begin(unit_name(unit), samples.num_rows)
        to_ask = [request for request in requests if request.outcome == tables.DRAWN]
        self.work.add_captions(unit_name(unit), samples.num_rows - sum(len(request.rows) for request in to_ask))
        # Requests with the same head go to the engine together, so its prefix stays cached.
        queue = iter(sorted(to_ask, key=lambda request: request.head))

        async def ask() -> None:
            for request in queue:
                await self._ask(unit, request)
                accepted = sum(draw.reason is None for draw in request.draws)
                self.work.add_request(len(request.slots), accepted, request.prompt_tokens, request.cached_tokens)
                self.work.add_captions(unit_name(unit), len(request.rows))

        await asyncio.gather(*(ask() for _ in range(min(REQUESTS_IN_FLIGHT, len(to_ask)))))
        return _build_draws(requests)

    async def _ask(self, unit: WorkUnit, request: _Request) -> None:
        """Fill in a request's draws, or the reason why the engine gave no answer."""
        name = f"{unit.prompt_set}/{unit.shard}/{request.rows[0]}"
        try:
            await self._draw_slots(unit.prompt_set, request, name)
        except (EngineDiedError, EncoderError):
            raise
        except BaseException as error:
            if is_request_to_stop(error):
                raise
            reason = str(error) if isinstance(error, RequestError) else tables.REQUEST_FAILED
            cause = error.__cause__ if isinstance(error, RequestError) else error
            if cause is not None:
                self._errors.log(name, reason, cause)
            if not request.draws:  # the first attempt's draws stay if a later attempt fails
                request.outcome = reason

    async def _draw_slots(self, prompt_set: str, request: _Request, name: str) -> None:
        prompt = self.heads[prompt_set][request.head].prompt(request.caption)
        accepted = list(request.others)
        slots: Sequence[int] = request.slots
        for attempt in range(request.attempt, request.attempt + self.redraws + 1):
            answer = await self.engine.generate(prompt, len(slots), f"{name}/{attempt}")
            draws = await self._judge(prompt_set, request, attempt, slots, answer, accepted)
            request.prompt_tokens += answer.prompt_tokens
            request.cached_tokens += answer.cached_tokens
            request.draws += draws
            slots = [draw.slot for draw in draws if draw.reason is not None]
            if not slots:
                return

    async def _judge(
        self,
        prompt_set: str,
        request: _Request,
        attempt: int,
        slots: Sequence[int],
        answer: Answer,
        accepted: list[str],
    ) -> list[_Draw]:
        """Judge the completions for `slots`, in order; accepted texts are added to `accepted`."""
        gate, caption, head = self.gates[prompt_set], request.caption, request.head
        taken = [self._take(completion, caption) for completion in answer.completions]
        texts = [text for text, _ in taken]
        reasons = [judge_text(gate, text, caption, truncated, head) for text, truncated in taken]
        scores = await self._score(
            caption, [None if reason else text for text, reason in zip(texts, reasons, strict=True)]
        )
        draws = []
        for slot, completion, (text, truncated), reason, pair_scores in zip(
            slots, answer.completions, taken, reasons, scores, strict=True
        ):
            if reason is None and accepted:
                reason = judge_text(gate, text, caption, truncated, head, accepted)
            if reason is None and pair_scores is not None and self.meaning is not None:
                reason = refusal(pair_scores, self.meaning.config, completion.log_probability)
            draws.append(
                _Draw(
                    *(slot, attempt, text, truncated, completion.output_tokens, reason),
                    *(completion.log_probability, pair_scores),
                )
            )
            if reason is None:
                accepted.append(text)
        return draws

    def _take(self, completion: Completion, caption: str) -> tuple[str, bool]:
        """The rewrite in a completion, and whether the token limit cut it off."""
        if self.completions == "reference":
            return reference_completion(completion.text), completion.truncated
        text = parse_completion(completion.text, caption)
        return text, completion.truncated and is_cut(completion.text, caption)

    async def _score(self, caption: str, texts: Sequence[str | None]) -> list[MeaningScores | None]:
        """The scores of texts; None where there is no text, or no meaning gate."""
        pairs = [(caption, text) for text in texts if text is not None]
        if self.meaning is None or not pairs:
            return [None] * len(texts)
        try:
            scores = iter(await self.meaning.encoders.score(pairs))
        except Exception as error:
            raise EncoderError(one_line(error)) from error
        return [None if text is None else next(scores) for text in texts]


def unit_name(unit: WorkUnit) -> str:
    """A unit's name in messages: `prompt set/shard`."""
    return f"{unit.prompt_set}/{unit.shard}"


def _read_kept(url: str) -> pa.Table | None:
    """The kept draws of a finished piece; None if the piece must be drawn: there are none, or the file is damaged."""
    try:
        # Pieces that an earlier version kept have no scores.
        return with_columns_of(table_from_bytes(storage.read_bytes(url)), MADE_SCHEMA)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        logger.warning("%s cannot be read, so its captions are drawn again (%s)", printable_line(url), one_line(error))
        return None


def _build_requests(samples: pa.Table, first_row: int) -> list[_Request]:
    """A request for each distinct caption. The engine is asked only for requests with the outcome `DRAWN`."""
    requests: dict[Any, _Request] = {}
    slots_of: dict[int, tuple[int, ...]] = {}
    names = ("caption", "head", "outcome", "slots", "attempt", "others")
    columns = (samples.column(name).to_pylist() for name in names)
    for row, (caption, head, outcome, bits, attempt, others) in enumerate(zip(*columns, strict=True), first_row):
        if not bits:
            continue
        is_fresh = others is None and not attempt and outcome == tables.DRAWN
        key = caption if is_fresh else (caption, outcome, bits, attempt, others)
        request = requests.get(key)
        if request is None:
            slots = slots_of.get(bits) or slots_of.setdefault(bits, slot_numbers(bits))
            accepted = tuple(json.loads(others)) if others else ()
            requests[key] = _Request(caption, head, slots, attempt, accepted, [row], outcome)
        else:
            request.rows.append(row)
    return list(requests.values())


def _build_draws(requests: Iterable[_Request]) -> pa.Table:
    """The draws of all requests: a table of `MADE_SCHEMA`.

    Tokens count once: output tokens at the first sample of a caption, prompt tokens at that sample's first draw.
    """
    rows: list[tuple[Any, ...]] = []
    for request in requests:
        if (outcome := request.outcome) != tables.DRAWN:
            rows.extend(
                (row, slot, request.attempt, outcome, None, False, 0, 0, 0, outcome, None, None, None)
                for row in request.rows
                for slot in request.slots
            )
            continue
        # The attempts at one slot stand together.
        draws = sorted(request.draws, key=lambda draw: draw[:2]) if len(request.draws) > 1 else request.draws
        prompt_tokens, cached_tokens = request.prompt_tokens, request.cached_tokens
        for row in request.rows:
            for slot, attempt, text, truncated, output_tokens, reason, log_probability, scores in draws:
                output_tokens = output_tokens if row == request.rows[0] else 0
                rows.append(
                    (
                        *(row, slot, attempt, tables.DRAWN, text, truncated),
                        *(prompt_tokens, cached_tokens, output_tokens, reason, log_probability),
                        *(scores or _NO_SCORES),
                    )
                )
                prompt_tokens = cached_tokens = 0
    rows.sort(key=lambda row: row[0])  # stable: the draws of a sample keep their order
    columns = zip(*rows, strict=True) if rows else [()] * len(MADE_SCHEMA)
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, MADE_SCHEMA.types, strict=True)], schema=MADE_SCHEMA
    )
