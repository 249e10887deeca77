"""The config that `laclip init` writes: YAML with a comment at each line that a user may want to change. Pure.

Values are written by the YAML writer of configs, so a path or a column of any name is read back as it is. Comments hold
no text from data but numbers.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from laclip_ray.config import DataConfig
from laclip_ray.config.yaml_text import dump_yaml, parse_yaml
from laclip_ray.survey.captions import SHORT_WORDS
from laclip_ray.survey.facts import Facts
from laclip_ray.survey.settings import HELD_OUT_PICTURES, Settings

_WIDTH = 58
"""Column of the comments, where lines are shorter."""
_PRIVATE_DEFAULTS = DataConfig(path="")

CPU_MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
"""A rewriter that a CPU can run."""
CPU_PROMPT_SET = "cleaned"
CPU_CLIP = "ViT-S-32-alt"
"""A CLIP that trains three times as fast as ViT-B-32."""
GPU_MODEL = "Qwen/Qwen3-8B-Base"
HELD_OUT_SET = "held-out"
_PLAIN_NAMES = ("data", "dataset", "images", "pictures", "shards", "train")


def name_of_data(path: str) -> str:
    """A name for an experiment, from the last part of a path that has letters.

    Names that tell nothing of the data, such as `train`, are used only if there is no other.

    >>> name_of_data("s3://bucket/my pictures/*.tar"), name_of_data("/x/cc3m.tsv"), name_of_data("/{0..9}.tar")
    ('my-pictures', 'cc3m', 'data')
    >>> name_of_data("/x/clothes/data/train-*.parquet"), name_of_data("/data")
    ('clothes', 'data')
    """
    parts = [*reversed(path.split("://")[-1].split("/"))]
    for part in [*(part for part in parts if part.lower() not in _PLAIN_NAMES), *parts]:
        plain = re.sub(r"\.(tar|parquet|csv|tsv|jsonl|ndjson)$", "", part)
        if re.search(r"[*?{\[]", plain):
            continue
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-_.")
        if re.search("[A-Za-z]", name):
            return name
    return "data"


def config_text(name: str, facts: Facts, settings: Settings, gpus: int) -> str:
    """The text of a config.

    Args:
        name: of the experiment.
        facts: of the data.
        settings: that fit it.
        gpus: of this machine.
    """
    lines = [
        (
            "# Settings and their defaults: docs/settings.md. Any of them can be overridden, as in train.epochs=10.",
            "",
        ),
        (f"name: {_value(name)}", ""),
        (f"output: {_value(f'runs/{name}')}", "what runs write; on a cluster, a URL"),
        ("data:", ""),
        *_data_lines(facts, settings),
        *_rewrite_lines(gpus),
    ]
    if facts.image is not None:
        lines += _training_lines(facts, settings, gpus)
    return "".join(_line(*line) for line in lines if any(line))


def _data_lines(facts: Facts, settings: Settings) -> Iterator[tuple[str, str]]:
    written = facts.data.model_dump(mode="json")
    defaults = _PRIVATE_DEFAULTS.model_dump(mode="json")
    for key, value in written.items():
        if value != defaults[key]:
            yield f"  {key}: {_value(value)}", _comments(facts).get(key, "")
    if facts.image is not None and settings.held_out:
        held_out = round(facts.rows.count * settings.held_out)
        yield f"  held_out: {_value(settings.held_out)}", f"about {held_out:,} samples, kept for evaluation"


def _comments(facts: Facts) -> dict[str, str]:
    captions = facts.sampled.captions
    said = f"{captions.median_words:g} words (median), {captions.short_share:.0%} under {SHORT_WORDS}"
    return {
        "path": f"{'' if facts.rows.is_exact else 'about '}{facts.rows.count:,} samples, captions of {said}",
        "image_column": "" if facts.image is None else str(facts.image.kind),
        "image_root": "the directory that image paths start from",
        "columns": "the table has no header",
    }


def _rewrite_lines(gpus: int) -> Sequence[tuple[str, str]]:
    if not gpus:
        return [
            (f"rewrite: {{model: {CPU_MODEL}, mode: chat,", f"for a CPU; on a GPU {GPU_MODEL}, without mode"),
            (f"  prompt_sets: [{CPU_PROMPT_SET}]}}", "one set, for a try; without this line all four"),
        ]
    return [
        (f"rewrite: {{model: {GPU_MODEL},", "24 GB of GPU memory; with 16 GB Qwen/Qwen3-4B-Base"),
        (f"  engine: {{actors: {{min: 1, max: {gpus}}}}}}}", "an engine a GPU"),
    ]


def _training_lines(facts: Facts, settings: Settings, gpus: int) -> Sequence[tuple[str, str]]:
    steps = f"about {settings.steps_per_epoch:,} steps an epoch"
    end = "; a worker a GPU" if gpus else "; few epochs, for a CPU" if settings.has_few_epochs else ""
    model = ("ViT-B-32", "the paper's: laclip_vit_s16, laclip_vit_b16")
    if not gpus:
        model = (CPU_CLIP, "small, for a CPU; on a GPU ViT-B-32")
    sizes = f"epochs: {settings.epochs}, batch_size: {settings.batch_size}, workers: {settings.workers}"
    rates = f"learning_rate: {_value(settings.learning_rate)}, warmup_epochs: {_value(settings.warmup_epochs)}"
    intervals = f"log_every_steps: {settings.log_every_steps}, checkpoint: {{every_steps: {settings.checkpoint_steps}}}"
    return [
        (f"model: {{name: {model[0]}}}", model[1]),
        (f"train: {{{sizes},", f"{steps}{end}"),
        (f"  {rates},", ""),
        (f"  {intervals}}}", ""),
        *_evaluation_lines(facts, settings),
    ]


def _evaluation_lines(facts: Facts, settings: Settings) -> Sequence[tuple[str, str]]:
    split = facts.evaluated
    if split is None:
        most = "" if settings.measured is None else f", max_samples: {settings.measured}"
        return [
            (f"evaluate: {{retrieval: [{{name: {HELD_OUT_SET}, held_out: true{most}}}]}}", "samples of data.held_out")
        ]
    most = f"max_samples: {HELD_OUT_PICTURES}, " if split.rows.count > 1.1 * HELD_OUT_PICTURES else ""
    about = "" if split.rows.is_exact else "about "
    defaults = _PRIVATE_DEFAULTS.model_dump(mode="json")
    values = {key: value for key, value in split.data.model_dump(mode="json").items() if value != defaults[key]}
    keys = ", ".join(f"{key}: {_in_brackets(value)}" for key, value in values.items() if key != "path")
    return [
        (
            f"evaluate: {{retrieval: [{{name: {split.name}, {most}data: {{",
            f"the {split.name} split: {about}{split.rows.count:,} samples",
        ),
        (f"  {keys}," if keys else "", ""),
        (f"  path: {_in_brackets(values['path'])}}}}}]}}", ""),
    ]


def _line(content: str, comment: str) -> str:
    return f"{content:<{_WIDTH}}  # {comment}\n" if comment else f"{content}\n"


def _value(value: Any) -> str:
    """A value on one line of YAML."""
    if isinstance(value, list):
        return f"[{', '.join(_item(str(item)) for item in value)}]"
    text = dump_yaml([value])
    return text.removeprefix("- ").rstrip("\n") if text.count("\n") == 1 else _quoted(str(value))


def _in_brackets(value: Any) -> str:
    """A value of a mapping in braces."""
    return _item(value) if isinstance(value, str) else _value(value)


def _item(text: str) -> str:
    """A text of a list: in brackets, more characters have a meaning."""
    return text if re.fullmatch("[a-z_]+[0-9]*", text) and parse_yaml(text) == text else _quoted(text)


def _quoted(text: str) -> str:
    """A long or unusual text in double quotes, with everything but plain ASCII escaped."""
    escaped = "".join(
        character if " " <= character <= "~" and character not in '"\\' else _escape(ord(character))
        for character in text
    )
    return f'"{escaped}"'


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
