"""How captions are rewritten."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from laclip_ray.config.fields import (
    BudgetConfig,
    CompletionRule,
    Delivery,
    HeadChoice,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Preset,
    Probability,
    PromptMode,
    Section,
    Template,
    WordCount,
    WorkerRange,
)
from laclip_ray.config.markers import (
    ChangesNoVerdict,
    DecidesRecipe,
    InputPath,
    OutputPath,
    SharedBySweep,
    ends_with,
    exists,
    is_clip_path,
    is_weights_file,
)
from laclip_ray.config.presets import fill_gate, fill_rewrite, without_meaning
from laclip_ray.errors import UserError

DEMO_REWRITER = "demo-rewriter"
"""Name of the small model in this package, as a value of `rewrite.model`."""

MAX_REWRITES_PER_SET = 32
"""Upper bound of `rewrite.rewrites_per_set`."""


def _is_local_model(value: str) -> bool:
    return value != DEMO_REWRITER and (value.startswith(".") or exists(value))


class SamplingConfig(Section):
    """Sampling from the language model. The defaults are the paper's values."""

    temperature: NonNegativeFloat = 0.9
    """Softmax temperature. 0: greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    """Nucleus sampling: probability mass to sample from."""
    max_tokens: PositiveInt = 77
    """Tokens in a rewrite, at most."""


class EngineConfig(Section):
    """The pool of vLLM engines."""

    actors: WorkerRange = WorkerRange()
    """Number of actors. Each holds one engine."""
    gpus_per_actor: NonNegativeFloat | None = None
    """GPUs for each engine. None: one if the cluster has GPUs, else none."""
    cpus_per_actor: NonNegativeFloat = 1.0
    """Logical CPUs reserved for each engine."""
    cpu_threads: PositiveInt | None = None
    """Threads that compute in an engine on a CPU. None: the node's number of cores."""
    tensor_parallel_size: PositiveInt = 1
    """GPUs of one node that hold one copy of the model. `gpus_per_actor` follows it."""
    accelerator_type: str | None = None
    """Place engines only on nodes with this accelerator, by Ray's name (`H100`, `A100-80G`, `L4`)."""
    label_selector: dict[str, str] = {}
    """Place engines only on nodes with these Ray labels, such as `ray.io/market-type: spot`."""
    shards_in_flight: PositiveInt = 2
    """Shards that an engine works on at the same time. With several, the slow tail of one shard does not idle it."""
    restart_timeout_s: PositiveFloat = 600.0
    """How long the restart of a lost engine is retried, in seconds. After that its shards go back to the other engines.
    Rewriting ends when the last engine is lost."""
    cpu_kv_cache_gib: PositiveInt = 1
    """Memory for the key-value cache of an engine on a CPU, in GiB."""
    args: Annotated[dict[str, Any], DecidesRecipe()] = {}
    """Further arguments of vLLM's AsyncEngineArgs, such as `max_model_len` or `gpu_memory_utilization`. Arguments for
    memory, parallelism, scheduling and logging are not part of the recipe."""

    @property
    def held_shards(self) -> int:
        """Shards assigned to an engine: the ones in flight, and one that waits."""
        return self.shards_in_flight + 1


class PictureGateConfig(Section):
    """A second gate that scores texts by their picture. It rejects rewrites that fit the picture worse than the caption
    does.
    """

    model: Annotated[str, InputPath(is_clip_path, is_name_if="pretrained")]
    """The scoring CLIP, as in `evaluate.checkpoint`: an open_clip name, `hf-hub:ORGANISATION/NAME`, a directory such as
    training's export, or a checkpoint file."""
    pretrained: Annotated[str | None, InputPath(is_weights_file)] = None
    """Weights of an open_clip name: open_clip's tag, or the path or URL of a checkpoint file."""
    margin: NonNegativeFloat = 0.05
    """Tolerance in cosine similarity. A rewrite is `unlike_picture` if its similarity to the picture is lower than the
    caption's by more than this."""
    batch_size: Annotated[PositiveInt, ChangesNoVerdict()] = 256
    """Pictures in a scoring batch."""
    actors: Annotated[WorkerRange, ChangesNoVerdict()] = WorkerRange()
    """Number of scoring processes. Each holds one model."""
    gpus_per_actor: Annotated[NonNegativeFloat, ChangesNoVerdict()] = 0.0
    """GPUs (or a share of one) for each scoring process."""


class MeaningGateConfig(Section):
    """A gate that compares the meaning of caption and rewrite with a sentence encoder. `docs/meaning.md` has the scores
    and the measurements behind the defaults.
    """

    model: Annotated[str, InputPath(_is_local_model)] = "sentence-transformers/all-MiniLM-L6-v2"
    """The sentence encoder: a Hugging Face name or a directory that sentence-transformers loads."""
    revision: str | None = None
    """The model's revision on the Hub. None: the newest."""
    added_weight: NonNegativeFloat = 0.18
    """Cosine similarity taken off for each word without a close word in the caption."""
    unlikely_weight: NonNegativeFloat = 0.3
    """Cosine similarity taken off for each unit of mean log-probability below `typical_log_probability`. 0: off."""
    typical_log_probability: Annotated[float, Field(le=0.0)] = -0.5
    """Mean log-probability of a rewrite above which `unlikely_weight` takes nothing off."""
    min_faithfulness: Annotated[float, Field(ge=-10.0, le=1.0)] = 0.74
    """Least similarity of caption and rewrite, after these costs. Below it a rewrite is `meaning_lost` if the
    similarity alone is lower, else `meaning_added`, else `unlikely`."""
    batch_size: Annotated[PositiveInt, ChangesNoVerdict()] = 256
    """Pairs in a scoring batch."""
    actors: Annotated[PositiveInt | None, ChangesNoVerdict()] = None
    """Number of scoring processes. Each holds one encoder. None: one for each engine that rewriting starts with."""
    gpus_per_actor: Annotated[NonNegativeFloat, ChangesNoVerdict()] = 0.0
    """GPUs (or a share of one) for each scoring process. 0: on a CPU."""


class GateConfig(Section):
    """Checks that a rewrite must pass before training shows it. Each can be switched off.

    The name in backticks is the recorded reason. `docs/gate.md` argues the defaults.
    """

    preset: Annotated[Preset | None, ChangesNoVerdict()] = None
    """Other defaults for this section. `paper`: the authors' only check, two words between spaces; all others are off.
    It also sets `rewrite.redraws: 0` and `rewrite.completions: reference`. A value that you write wins."""
    min_words: NonNegativeInt = 2
    """A rewrite with fewer words is `too_short` (the paper drops rewrites of one word). 0: off."""
    word_count: WordCount = "words"
    """How `min_words` counts. `words`: words with a letter or digit. `spaces`: the parts between single spaces, as the
    paper's code counts."""
    max_context_tokens: PositiveInt | None = 77
    """A rewrite with more tokens in CLIP's tokeniser is `too_long`. None: off."""
    drop_truncated: bool = True
    """A rewrite that hit `sampling.max_tokens` is `truncated`."""
    drop_copies: bool = True
    """A rewrite equal to the caption, except for case and punctuation, is `copy_of_caption`."""
    drop_near_copies: bool = False
    """A rewrite that differs from the caption only in articles, punctuation or inflection is `near_copy`."""
    drop_prompt_echo: bool = True
    """A rewrite with the prompt's separator or instruction is `prompt_echo`; a copy of a target in the prompt is
    `copy_of_example`."""
    drop_from_example: bool = True
    """A rewrite with words that stand in its prompt's example pairs and not in the caption (rare ones, numbers, names)
    is `from_example`."""
    drop_repeats: bool = True
    """A rewrite equal to another one of the same caption and set is `copy_of_rewrite`."""
    drop_chat_phrases: bool = True
    """A refusal is `refusal`; an assistant's remark around the rewrite ("Sure, here is") is `chat_phrase`."""
    drop_broken_characters: bool = True
    """A rewrite with wrongly decoded characters (U+FFFD, `â€™`, `<0x0A>`) that the caption does not have is
    `broken_characters`."""
    drop_markup: bool = True
    """A rewrite with Markdown, tags, JSON or addresses that the caption does not have is `markup_left`."""
    drop_wrong_script: bool = True
    """A rewrite is `wrong_script` if a fifth of its letters belong to a script that the caption hardly uses."""
    drop_lost_numbers: bool = True
    """A rewrite that lacks a number of the caption, as digits and as a word, is `numbers_lost`."""
    drop_changed_placeholders: bool = True
    """A rewrite that loses or invents a placeholder such as `<PERSON>` is `placeholders_changed`."""
    drop_wordless_captions: bool = True
    """A caption without a word (`###`, `12.5`, `DSC_0087.jpg`) costs no engine call: it is `nothing_to_rewrite`, and
    training shows the caption."""
    max_repeated_phrases: NonNegativeInt = 4
    """A rewrite is `looping` if one word occurs more often than this in a row, or a phrase of two to eight words more
    than half as often. 0: off."""
    min_shared_words: NonNegativeInt = 1
    """A rewrite with fewer content words in common with the caption is `unrelated`. In scripts without spaces, pairs of
    characters count as words. 0: off, for one-word captions that are rewritten by synonyms."""
    meaning: MeaningGateConfig | None = MeaningGateConfig()
    """Also compare the meaning of the accepted rewrites with their captions'. None: off, and no encoder is needed.
    With `rewrite.model: demo-rewriter` it is off unless you set it."""
    picture: PictureGateConfig | None = None
    """Also score the accepted rewrites by their picture. None: no pictures are read."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, content: Any) -> Any:
        return fill_gate(content, cls)


class RewriteConfig(Section):
    """How captions are rewritten."""

    preset: Preset | None = None
    """Other defaults for this section. `paper`: prompts, sampling and gate as in the paper and its authors' code, with
    a base model and prompt sets of your choice (`docs/reproducing.md`). A value that you write wins."""
    output: Annotated[str | None, OutputPath()] = None
    """Directory or URL of the rewrite sets, one directory for each prompt set. None: `rewrites` under `output`."""
    model: Annotated[str | None, InputPath(_is_local_model), DecidesRecipe()] = None
    """A Hugging Face name, a local directory, or `demo-rewriter` (in this package; it knows only the demo's world).
    Rewriting and its estimate need it; there is no default."""
    revision: Annotated[str | None, DecidesRecipe()] = None
    """The model's revision on the Hub. None: the newest."""
    prompt_sets: Annotated[
        list[str],
        Field(min_length=1),
        InputPath(ends_with(".yaml", ".yml"), travels=True, is_read_on_nodes=False),
        SharedBySweep(),
    ] = [
        "assistant_concise",
        "assistant_vivid",
        "crowd",
        "cleaned",
    ]
    """Built-in names or YAML files. Each makes one rewrite set."""
    mode: Annotated[PromptMode, DecidesRecipe()] = "completion"
    """`completion` for base models (as in the paper), `chat` for instruct models."""
    heads: Annotated[int, Field(ge=1, le=10_000), DecidesRecipe()] = 32
    """Prompt heads in a set: few enough that the engine's prefix cache holds all of them."""
    head_choice: HeadChoice = "aligned"
    """Which example pairs the heads show. `aligned`: triples whose tokens end on a block boundary of the engine's
    prefix cache, or close behind one; an engine computes a partial block again for every caption. `any`: any triples,
    as in the paper. With `aligned`, a rewrite set that exists keeps its heads."""
    rewrites_per_set: Annotated[int, Field(ge=1, le=MAX_REWRITES_PER_SET)] = 1
    """Rewrites of each caption in each set. After an increase, only the missing ones are drawn."""
    redraws: Annotated[int, Field(ge=0, le=1_000)] = 1
    """How often a rejected rewrite is drawn again."""
    template: Annotated[Template, DecidesRecipe()] = "plain"
    """Layout of completion prompts: `plain`, or `reference`, byte for byte as in the paper's code."""
    completions: Annotated[CompletionRule, DecidesRecipe()] = "normalised"
    """How a rewrite is taken from a completion. `normalised`: one line without marks, labels and quotes around it
    (`docs/gate.md`). `reference`: the first line up to the separator, as in the paper's code."""
    max_caption_characters: Annotated[PositiveInt, DecidesRecipe()] = 1_000
    """Longer captions are not rewritten. They are recorded as `caption_too_long`, and training shows the caption."""
    sampling: Annotated[SamplingConfig, DecidesRecipe()] = SamplingConfig()
    """Sampling from the language model."""
    log_probability: bool = True
    """Store the mean log-probability of each draw, which `text.p` and `text.choice` may use (`docs/training.md`). It
    changes no text."""
    delivery: Delivery = "ahead"
    """When `laclip run` makes the rewrites. `ahead`: all before training. `inline`: during training, which waits for
    the rewrites of each shard. `follow`: during training, which never waits and shows captions meanwhile."""
    engine: EngineConfig = EngineConfig()
    """The pool of vLLM engines."""
    gate: GateConfig = GateConfig()
    """Checks on rewrites."""
    max_engine_deaths: PositiveInt = 2
    """Engines that may die of one caption, each time alone in the engine, before it is recorded as `engine_died`."""
    max_failed_share: Probability = 0.5
    """Largest share of rewrites that may fail without a whole text: no caption, no completion, an empty or a truncated
    one. Above it, over at least 1,000 rows, the run ends early and is incomplete. 1: no limit."""
    price: str | None = None
    """Name in the price list for the engines' GPUs. None: costs have no price."""
    prices: Annotated[str | None, InputPath(travels=True, is_read_on_nodes=False)] = None
    """YAML file of the price list. None: the list in this package."""
    budget: BudgetConfig = BudgetConfig()
    """Limit on the cost of rewriting."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, content: Any) -> Any:
        filled = fill_rewrite(content)
        if isinstance(filled, Mapping) and filled.get("model") == DEMO_REWRITER:
            # The model in this package needs no network, and the default encoder would.
            return {**filled, "gate": without_meaning(filled.get("gate", {}))}
        return filled

    @model_validator(mode="after")
    def _preset_fits(self) -> "RewriteConfig":
        if self.preset == "paper" and self.mode == "chat":
            raise ValueError(
                "preset: paper writes the paper's prompts for a base model, and mode: chat does not use them; leave "
                "out mode, or the preset"
            )
        return self

    @model_validator(mode="after")
    def _draws_differ(self) -> "RewriteConfig":
        if self.sampling.temperature == 0 and self.rewrites_per_set > 1:
            raise ValueError("sampling.temperature is 0, so all rewrites_per_set would be the same; set it to 1")
        return self


def required_model(rewrite: RewriteConfig) -> str:
    """The language model that writes rewrites.

    Raises:
        UserError: `rewrite.model` is not set.
    """
    if rewrite.model is None:
        raise UserError(
            "rewrite.model: not set, and rewriting needs a language model; set it by the memory of your GPUs, for "
            "example to Qwen/Qwen3-4B-Base (16 GB), Qwen/Qwen3-8B-Base (24 GB or more) or Qwen/Qwen3-14B-Base (80 GB), "
            f"all base models under Apache-2.0 ({DEMO_REWRITER}, in this package, knows only the world of "
            "`laclip demo`)"
        )
    return rewrite.model
