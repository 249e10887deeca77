"""Every fact about a config field stands at the field, and a new field needs a decision."""

from typing import get_args

import pytest

from laclip_ray.config import (
    CanBeSwept,
    ChangesNoVerdict,
    Experiment,
    FixedInSweep,
    InputPath,
    MayChangeOnResume,
    OutputPath,
    SharedBySweep,
    marked_keys,
    walk,
)
from laclip_ray.config.markers import Marker

INPUT_PATHS = {
    "data.path",
    "data.index",
    "data.image_root",
    "rewrite.model",
    "rewrite.prompt_sets",
    "rewrite.prices",
    "rewrite.gate.meaning.model",
    "rewrite.gate.picture.model",
    "rewrite.gate.picture.pretrained",
    "text.rewrites",
    "model.name",
    "evaluate.checkpoint",
    "evaluate.pretrained",
    "evaluate.others[].checkpoint",
    "evaluate.others[].pretrained",
    *(f"evaluate.labelled[].{key}" for key in ("path", "class_names", "templates", "classes")),
    "evaluate.retrieval[].data.path",
    "evaluate.retrieval[].data.index",
    "evaluate.retrieval[].data.image_root",
    "evaluate.retrieval[].wording.rewrites",
    "evaluate.sugar_crepe[].path",
    "evaluate.sugar_crepe[].images",
    "ray.shared_paths",
}
OUTPUT_PATHS = {"output", "rewrite.output", "train.output", "evaluate.output", "evaluate.features", "tune.output"}
NO_PATHS = {
    "name",
    *(
        f"{section}.{key}"
        for section in ("data", "evaluate.retrieval[].data")
        for key in ("image_column", "caption_column", "id_column", "columns", "image_schemes")
    ),
    "rewrite.revision",
    "rewrite.gate.meaning.revision",
    "rewrite.price",
    "rewrite.engine.accelerator_type",
    "train.accelerator_type",
    "train.price",
    "evaluate.labelled[].name",
    *(f"evaluate.labelled[].{key}" for key in ("split", "train_split", "val_split", "image_column", "label_column")),
    "evaluate.retrieval[].name",
    "evaluate.others[].name",
    "evaluate.sugar_crepe[].name",
    "tune.metric",
    "train.checkpoint.keep_best",
    *(f"track.{key}" for key in ("project", "name", "group", "tags")),
}
MAY_CHANGE_ON_RESUME = {
    "output",
    "workers",
    "gpus_per_worker",
    "cpus_per_worker",
    "accelerator_type",
    "label_selector",
    "learning_rate",
    "gradient_clip_norm",
    "local_loss",
    "micro_batch_size",
    "on_non_finite_loss",
    "compile",
    "gradient_checkpointing",
    "price",
    "expected_images_per_s",
    "log_every_steps",
    "export_every_epochs",
    "max_failures",
    "checkpoint",
}
SAME_ON_RESUME = {
    "epochs",
    "batch_size",
    "learning_rate_start",
    "learning_rate_end",
    "warmup_epochs",
    "weight_decay",
    "beta1",
    "beta2",
    "epsilon",
    "loss",
    "channels_last",
    "precision",
}


def takes_text(annotation: object) -> bool:
    """Whether a field takes a text, or a list of texts, and not only one of a few words."""
    if annotation is str:
        return True
    return getattr(annotation, "__origin__", None) is not dict and any(map(takes_text, get_args(annotation)))


def test_every_field_of_texts_is_known_to_be_a_path_or_not() -> None:
    texts = {facts.key for facts in walk(Experiment) if takes_text(facts.info.annotation)}
    assert texts == INPUT_PATHS | OUTPUT_PATHS | NO_PATHS


def test_every_setting_of_training_is_known_to_change_on_resume_or_not() -> None:
    names = set(Experiment.model_fields["train"].annotation.model_fields)  # type: ignore[union-attr]
    assert names == MAY_CHANGE_ON_RESUME | SAME_ON_RESUME
    assert not MAY_CHANGE_ON_RESUME & SAME_ON_RESUME


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (InputPath, INPUT_PATHS),
        (OutputPath, OUTPUT_PATHS),
        (
            MayChangeOnResume,
            {
                *("data.index", "evaluate.retrieval[].data.index", "track"),
                *(f"train.{name}" for name in MAY_CHANGE_ON_RESUME),
            },
        ),
        (CanBeSwept, {"text", "stream", "model", "train"}),
        (
            FixedInSweep,
            {
                f"train.{name}"
                for name in (
                    *("output", "epochs", "workers", "cpus_per_worker", "gpus_per_worker"),
                    *("export_every_epochs", "price"),
                )
            },
        ),
        (
            SharedBySweep,
            {
                *("data", "text", "model", "train", "train.learning_rate", "train.gradient_clip_norm"),
                *("rewrite.prompt_sets", "stream.order", "stream.crop_scale", "stream.shuffle_buffer_rows"),
                *("evaluate.labelled", "evaluate.retrieval", "evaluate.sugar_crepe"),
            },
        ),
        (
            ChangesNoVerdict,
            {
                "rewrite.gate.preset",
                *(
                    f"rewrite.gate.{gate}.{name}"
                    for gate in ("meaning", "picture")
                    for name in ("batch_size", "actors", "gpus_per_actor")
                ),
            },
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_marker_stands_at_these_fields(kind: type[Marker], keys: set[str]) -> None:
    assert marked_keys(Experiment, kind) == keys


def test_the_walk_reaches_sections_in_unions_lists_and_mappings() -> None:
    keys = [facts.key for facts in walk(Experiment)]
    assert len(keys) == len({*keys})
    assert {"train.workers.min", "rewrite.gate.picture.actors.max", "text.p.start", "tune.p[].end"} <= {*keys}
    assert {"evaluate.retrieval[].data.path", "tune.space[].grid", "tune.halving.reduction"} <= {*keys}


def test_every_field_has_a_docstring() -> None:
    assert [facts.key for facts in walk(Experiment) if not facts.info.description] == []
