"""The work of engines, as their actors count it: the tokens of each unit, the speed, and the use of the prefix cache.

Guarantees: no engine is asked again; the counts come with the units. Pure functions and counters.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laclip_ray.rewriting.tables import TOKENS

_LEAST_REUSE = 4
"""The use of the cache is judged when each head was used about this many times."""

_LEAST_SHARE = 0.5
"""Share of the promised tokens below which the cache is reported as defeated."""


@dataclass(frozen=True)
class EngineWork:
    """The work of an engine for one unit."""

    hardware: str
    """The engine's devices."""
    cache_block_tokens: int | None = None
    """Tokens of a block of the engine's prefix cache. None: not known."""
    engine_s: float = 0.0
    """Seconds of the engine's life since its last unit."""
    start_s: float = 0.0
    """Seconds of these that its start took; 0 after its first unit."""
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def with_tokens_of(self, made: pa.Table) -> "EngineWork":
        """This work with the requests and tokens of a `MADE_SCHEMA` table."""
        row, attempt = (made.column(name).to_numpy().astype(np.int64) for name in ("row", "attempt"))
        is_asked = made.column("output_tokens").to_numpy() > 0
        prompt, cached, output = (int(pc.sum(made.column(name)).as_py() or 0) for name in TOKENS)
        return replace(
            self,
            requests=len(np.unique((row << 16 | attempt)[is_asked])),
            prompt_tokens=prompt,
            cached_tokens=cached,
            output_tokens=output,
        )

    def to_json(self) -> str:
        """The JSON object in a stream row."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "EngineWork":
        """The inverse of `to_json`."""
        return cls(**json.loads(text))


@dataclass
class EngineSpeed:
    """How fast the engines of a run wrote, without their start."""

    output_tokens: int = 0
    busy_s: float = 0.0
    """Summed over engines."""
    hardware: set[str] = field(default_factory=set)

    def add(self, work: EngineWork) -> None:
        """Add the work of one unit."""
        self.output_tokens += work.output_tokens
        self.busy_s += max(work.engine_s - work.start_s, 0.0)
        self.hardware.add(work.hardware)

    @property
    def tokens_per_s(self) -> float | None:
        """Output tokens a second of one engine; None without work."""
        return self.output_tokens / self.busy_s if self.busy_s > 0 and self.output_tokens else None


@dataclass
class CacheWatch:
    """Compares the prompt tokens found in the prefix cache with the tokens that the prompt heads promise."""

    promised: Mapping[str, float]
    """By prompt set, mean tokens of a head's whole blocks."""
    heads: int
    """Heads of a prompt set."""
    _engines: set[tuple[str, str]] = field(default_factory=set)
    """(prompt set, engine): each engine computes each head once."""
    _requests: dict[str, int] = field(default_factory=dict)
    _prompt_tokens: int = 0
    _cached_tokens: int = 0
    _block_tokens: int | None = None
    _is_done: bool = False

    def add(self, prompt_set: str, engine: str, work: EngineWork) -> None:
        """Add the work of one unit."""
        self._engines.add((prompt_set, engine))
        self._requests[prompt_set] = self._requests.get(prompt_set, 0) + work.requests
        self._prompt_tokens += work.prompt_tokens
        self._cached_tokens += work.cached_tokens
        self._block_tokens = work.cache_block_tokens

    def warning(self) -> str | None:
        """A warning, once, if the cache holds far less than promised. None: it does not, or too few heads were used."""
        requests = sum(self._requests.values())
        first = self.heads * len(self._engines)
        if self._is_done or requests < _LEAST_REUSE * first or not self._prompt_tokens:
            return None
        self._is_done = True
        promised = sum(
            self.promised[name] * max(count - self.heads * sum(name == other for other, _ in self._engines), 0)
            for name, count in self._requests.items()
        )
        if self._cached_tokens >= _LEAST_SHARE * promised:
            return None
        prompt = self._prompt_tokens
        computed, expected = prompt - self._cached_tokens, prompt - promised
        return (
            f"the prefix cache gave {self._cached_tokens / prompt:.0%} of the first {requests:,} prompts, and their "
            f"heads promise {promised / prompt:.0%}: engines compute {computed / requests:.0f} prompt tokens a request "
            f"instead of {expected / requests:.0f}, {computed / expected:.1f} times as many. {self._cause()}"
        )

    def _cause(self) -> str:
        longest = max(self.promised.values(), default=0.0)
        if self._block_tokens is not None and self._block_tokens > longest:
            return (
                f"The engine's cache shares whole blocks of {self._block_tokens:,} tokens, and a head has about "
                f"{longest:.0f}. vLLM makes blocks this long for models with Mamba or linear-attention layers; a model "
                "with attention alone uses the cache"
            )
        return (
            f"The cache may be too small for {self.heads:,} heads a prompt set beside the requests in flight: lower "
            "rewrite.heads or rewrite.engine.args.max_num_seqs, or give the cache more memory "
            "(rewrite.engine.args.gpu_memory_utilization, on a CPU rewrite.engine.cpu_kv_cache_gib)"
        )
