"""How captions are rewritten."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from laclip_ray.config.fields import (
    BudgetConfig,
    Delivery,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PromptMode,
    Section,
    Template,
    WorkerRange,
)

DEMO_REWRITER = "demo-rewriter"
"""The model name that stands for the small rewriter in this package."""

MAX_REWRITES_PER_SET = 32


class SamplingConfig(Section):
    """How the language model's next token is drawn; the paper's values are the defaults."""

    temperature: NonNegativeFloat = 0.9
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Nucleus sampling."""
    max_tokens: PositiveInt = 77
    """The most tokens a rewrite may have."""


class EngineConfig(Section):
    """The pool of vLLM engines."""

    actors: WorkerRange = WorkerRange()
    """Engines, one an actor."""
    gpus_per_actor: NonNegativeFloat | None = None
    """None: one where the cluster has GPUs, else none."""
    cpus_per_actor: NonNegativeFloat = 1.0
    """Logical CPUs reserved for an engine."""
    cpu_threads: PositiveInt | None = None
    """Threads that an engine computes with on a CPU. None: as many as the node has cores."""
    tensor_parallel_size: PositiveInt = 1
    """GPUs of one node that an engine spreads the model over; `gpus_per_actor` follows it."""
    accelerator_type: str | None = None
    """Only on nodes with this accelerator, by Ray's name (`H100`, `A100-80G`, `L4`)."""
    label_selector: dict[str, str] = {}
    """Only on nodes with these Ray labels, such as `ray.io/market-type: spot`."""
    shards_in_flight: PositiveInt = 2
    """Shards an engine works on at a time, so that the slow tail of one does not idle it."""
    restart_timeout_s: PositiveFloat = 600.0
    """How long the start of an engine that was lost is tried again before the shards that it had are left to others.
    Rewriting ends when no engine is left."""
    cpu_kv_cache_gib: PositiveInt = 1
    """On a CPU: memory for the key-value cache."""
    args: dict[str, Any] = {}
    """Further arguments of vLLM's AsyncEngineArgs, such as `max_model_len` or `gpu_memory_utilization`."""

    @property
    def held_shards(self) -> int:
        """Shards that an engine has at a time: those that it works on, and one that waits."""
        return self.shards_in_flight + 1


class PictureGateConfig(Section):
    """A second gate: rewrites that are less like their picture than the caption are dropped."""

    model: str
    """An open_clip name, `hf-hub:ORGANISATION/NAME`, or a directory such as `laclip train` exports."""
    pretrained: str | None = None
    """The weights of a named model: open_clip's tag, or a checkpoint file."""
    margin: NonNegativeFloat = 0.05
    """How much smaller than the caption's a rewrite's cosine similarity with the picture may be, else it is
    `unlike_picture`."""
    batch_size: PositiveInt = 256
    """Pictures that are scored together."""
    actors: WorkerRange = WorkerRange()
    """Processes that score, one model each."""
    gpus_per_actor: NonNegativeFloat = 0.0
    """Share of a GPU that such a process is given."""


class GateConfig(Section):
    """What a rewrite must satisfy to be shown in training. Each check can be switched off.

    Every name in quotes is the reason that is recorded; `docs/gate.md` argues the defaults.
    """

    min_words: NonNegativeInt = 2
    """Fewer words is `too_short` (the paper drops rewrites of one word); 0 switches it off."""
    max_context_tokens: PositiveInt | None = 77
    """More tokens of CLIP's tokeniser is `too_long`; None switches it off."""
    drop_truncated: bool = True
    """Cut off by `sampling.max_tokens` is `truncated`."""
    drop_copies: bool = True
    """Equal to the caption, but for case and punctuation, is `copy_of_caption`."""
    drop_prompt_echo: bool = True
    """Holding the separator or the instruction is `prompt_echo`; a target of the prompt is `copy_of_example`."""
    drop_repeats: bool = True
    """Equal to another rewrite of the caption in the set is `copy_of_rewrite`."""
    drop_chat_phrases: bool = True
    """A refusal is `refusal`; an assistant's talk beside the rewrite ("Sure, here is") is `chat_phrase`."""
    drop_wrong_script: bool = True
    """A fifth of the letters in a script that the caption hardly has is `wrong_script`."""
    drop_lost_numbers: bool = True
    """A number of the caption that the rewrite lacks, as digits or as a word, is `numbers_lost`."""
    drop_changed_placeholders: bool = True
    """A placeholder such as `<PERSON>` that is lost or invented is `placeholders_changed`."""
    max_repeated_phrases: NonNegativeInt = 4
    """A word more often than this in a row, or two to eight words more often than half of it, is `looping`; 0 switches
    it off."""
    min_shared_words: NonNegativeInt = 1
    """Fewer content words in common with the caption is `unrelated`; 0 switches it off (one-word captions that are
    rewritten by synonyms, scripts without spaces)."""
    picture: PictureGateConfig | None = None
    """Scores what the other checks accept by the picture. None: pictures are not looked at."""


class RewriteConfig(Section):
    """How captions are rewritten."""

    output: str | None = None
    """Where the rewrite sets are kept, one directory a prompt set. None: `rewrites` under `output`."""
    model: str = DEMO_REWRITER
    """A Hugging Face name, a local directory, or `demo-rewriter` (in this package, knows the demo world only)."""
    revision: str | None = None
    """The model's revision on the hub."""
    prompt_sets: Annotated[list[str], Field(min_length=1)] = [
        "assistant_concise",
        "assistant_vivid",
        "crowd",
        "human",
    ]
    """Built-in names or YAML files; each makes a rewrite set of its own."""
    mode: PromptMode = "completion"
    """`completion` for base models (the paper's), `chat` for instruct models."""
    heads: PositiveInt = 32
    """Prompt heads a set: few enough for the engine's prefix cache to hold every one."""
    rewrites_per_set: Annotated[int, Field(ge=1, le=MAX_REWRITES_PER_SET)] = 1
    """Rewrites for each caption and prompt set. Raising it draws only those that are missing."""
    redraws: NonNegativeInt = 1
    """How often a rewrite that the gate rejects is drawn again."""
    template: Template = "plain"
    """`plain`, or the layout of the prompts of the paper's code, to the byte."""
    max_caption_characters: PositiveInt = 1_000
    """Longer captions are not rewritten: they are recorded as `caption_too_long` and train as they are."""
    sampling: SamplingConfig = SamplingConfig()
    delivery: Delivery = "ahead"
    """How `laclip run` brings rewrites to training. `ahead`: all are made first. `inline`: they are made while training
    reads, which waits for those of a shard. `follow`: training never waits, and shows captions instead."""
    engine: EngineConfig = EngineConfig()
    gate: GateConfig = GateConfig()
    max_engine_deaths: PositiveInt = 2
    """Engines that may die of one caption, each time with nothing else in hand, before it is recorded as
    `engine_died`."""
    price: str | None = None
    """The name of what a GPU is rented as, in the price list."""
    prices: str | None = None
    """The price list. None: the one in the package."""
    budget: BudgetConfig = BudgetConfig()

    @model_validator(mode="after")
    def _draws_differ(self) -> "RewriteConfig":
        if self.sampling.temperature == 0 and self.rewrites_per_set > 1:
            raise ValueError("sampling.temperature is 0, so that all rewrites_per_set would be the same; set it to 1")
        return self
