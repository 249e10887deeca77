"""Every message about an unknown name asks for the nearest known one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from laclip_ray.config import DataConfig, Experiment, parse_experiment
from laclip_ray.config.loading import read_config
from laclip_ray.data.table_rows import check_columns
from laclip_ray.errors import UserError
from laclip_ray.evaluation.during import evaluation_during
from laclip_ray.evaluation.sets.class_lists import load_class_names
from laclip_ray.evaluation.sets.table_columns import choose_columns
from laclip_ray.evaluation.sets.template_lists import load_templates
from laclip_ray.models.specs import load_model_spec
from laclip_ray.rewriting.inspection import RETRYABLE, check_reasons
from laclip_ray.rewriting.prices import load_prices
from laclip_ray.rewriting.prompting.prompts import load_prompt_set
from laclip_ray.rewriting.storing.sets import SetSelection, check_weights, readable_sets
from laclip_ray.submitting.submission import prepare
from laclip_ray.tuning.results import objective_metric
from laclip_ray.tuning.space import Space

SETS = SetSelection(("/runs/rewrites/cleaned", "/runs/rewrites/crowd"), "gate")


def experiment(tmp_path: Path, **sections: object) -> Experiment:
    (tmp_path / "a.jpg").touch()
    content = {"name": "a", "output": str(tmp_path / "out"), "data": {"path": str(tmp_path)}}
    return parse_experiment({**content, **sections})


def keep_best(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("path,caption\na.jpg,a dog\n")
    captions = {"path": str(tmp_path / "captions.csv"), "image_column": "path"}
    during = {"retrieval": [{"name": "dogs", "data": captions}], "during": {"every_epochs": 1}}
    checkpoint = {"keep_best": "retrieval/dogs/image_to_txt_r1"}
    with evaluation_during(experiment(tmp_path, evaluate=during, train={"checkpoint": checkpoint})):
        pass


def metric_of_a_sweep(tmp_path: Path) -> None:
    of = experiment(
        tmp_path,
        evaluate={"labelled": [{"name": "dogs", "path": "x"}]},
        tune={"metric": "zero-shot/dogs/top-1"},
    )
    objective_metric(of.tune, of.evaluate)


def config_file(tmp_path: Path) -> None:
    (tmp_path / "pictures.yaml").touch()
    read_config(str(tmp_path / "picture.yaml"))


CASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a config file": (config_file, "pictures.yaml"),
    "a value of the config": (lambda path: experiment(path, rewrite={"delivery": "inlien"}), "inline"),
    "a column of a table": (
        lambda _: check_columns(["path", "caption"], DataConfig(path="x", caption_column="captoin"), "x", "data"),
        "caption",
    ),
    "a column of a labelled table": (
        lambda _: choose_columns(["image", "label"], ["image"], "imgae", None, "x", "set"), "image",
    ),
    "a class list": (lambda _: load_class_names("/here/imagnet", "set: class_names"), "imagenet"),
    "a template list": (lambda _: load_templates("/here/opneai", "set: templates"), "openai"),
    "a model": (lambda _: load_model_spec("ViT-B-23"), "ViT-B-32"),
    "a prompt set": (lambda _: load_prompt_set("clened"), "cleaned"),
    "a price": (lambda _: load_prices(None).price("h10"), "h100"),
    "a reason": (lambda _: check_reasons(["refusl"], RETRYABLE), "refusal"),
    "a rewrite set to read": (lambda _: readable_sets(SETS, ["crowds"]), "crowd"),
    "a rewrite set with a weight": (
        lambda _: check_weights(SetSelection(SETS.locations, "gate", {"clean": 1.0})), "cleaned",
    ),
    "a metric to keep": (keep_best, "retrieval/dogs/image_to_text_r1"),
    "a metric of a sweep": (metric_of_a_sweep, "zero-shot/dogs/top1"),
    "a swept key": (
        lambda path: Space.of(experiment(path, tune={"space": {"trian.epochs": {"grid": [1]}}}).tune), "train.epochs",
    ),
    "a verb to submit": (lambda _: prepare("rewrit", "a.yaml"), "rewrite"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, tmp_path: Path) -> None:
    refuse, expected = CASES[name]
    with pytest.raises(UserError) as refused:
        refuse(tmp_path)
    message = str(refused.value)
    assert any(f"{sign} {expected}" in message for sign in ("did you mean", "the nearest key is", "similar:"))
