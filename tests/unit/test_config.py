"""The config is strict and frozen, and every error names its key."""

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from laclip_ray.config import (
    WorkerRange,
    load_experiment,
    named_variables,
    parse_experiment,
    to_yaml,
    with_overrides,
)
from laclip_ray.config.fields import ChoiceScore, PairScore
from laclip_ray.errors import UserError
from laclip_ray.redaction import is_secret_name
from laclip_ray.rewriting.tables import LOG_PROBABILITY, SCORES


def minimal(**sections: Any) -> dict[str, Any]:
    return {"name": "test", "output": "out", "data": {"path": "shards"}, **sections}


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (minimal(tran={}), "tran"),
        (minimal(train={"epoch": 3}), "train.epoch"),
        (minimal(train={"checkpoint": {"every": 3}}), "train.checkpoint.every"),
        (minimal(rewrite={"engine": {"actors": {"most": 3}}}), "rewrite.engine.actors.most"),
        (
            minimal(evaluate={"retrieval": [{"name": "a", "data": {"path": "b", "caption": "c"}}]}),
            "evaluate.retrieval[0].data.caption",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_its_full_path(content: dict[str, Any], path: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_experiment(content)
    assert f"\n  {path}: unknown key" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "path", "got"),
    [
        (minimal(train={"epochs": "3"}), "train.epochs", "'3'"),
        (minimal(train={"epochs": 2.5}), "train.epochs", "2.5"),
        (minimal(train={"epochs": True}), "train.epochs", "True"),
        (minimal(train={"epochs": 0}), "train.epochs", "0"),
        (minimal(text={"p": 1.5}), "text.p", "1.5"),
        (minimal(stream={"order": "quick"}), "stream.order", "'quick'"),
        (minimal(stream={"crop_scale": [0.5]}), "stream.crop_scale[1]", "missing"),
        (minimal(stream={"crop_scale": [0.9, 0.5]}), "stream.crop_scale", "expected [smallest, largest]"),
        (minimal(train={"learning_rate": float("inf")}), "train.learning_rate", "finite"),
        (minimal(data={"path": 5}), "data.path", "valid string"),
        (minimal(rewrite={"gate": {"drop_copies": "yes"}}), "rewrite.gate.drop_copies", "'yes'"),
        (minimal(tune={"p": [0.5, "x"]}), "tune.p[1]", "'x'"),
        (minimal(data={"path": "a", "held_out": 1.0}), "data.held_out", "1.0"),
        (minimal(evaluate={"retrieval": [{"name": "a"}]}), "evaluate.retrieval[0]", "data is missing"),
        (minimal(evaluate={"retrieval": [{"name": "a", "held_out": True}]}), "", "data.held_out is 0"),
        (
            minimal(evaluate={"retrieval": [{"name": "a", "held_out": True, "data": {"path": "b"}}]}),
            "evaluate.retrieval[0]",
            "give one of them",
        ),
        (
            minimal(evaluate={"retrieval": [{"name": "a", "data": {"path": "b", "held_out": 0.1}}]}),
            "evaluate.retrieval[0]",
            "only concerns training data",
        ),
        (minimal(data={"path": "a", "max_rows_per_shard": 10_001}), "data.max_rows_per_shard", "10001"),
    ],
)
def test_a_wrong_value_is_refused_with_its_path_and_itself(content: dict[str, Any], path: str, got: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_experiment(content)
    assert f"  {path}" in str(caught.value)
    assert got in str(caught.value)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(UserError) as caught:
        parse_experiment({"name": "test", "data": {}})
    assert "output: missing" in str(caught.value)
    assert "data.path: missing" in str(caught.value)


def test_every_wrong_value_is_reported_at_once() -> None:
    with pytest.raises(UserError, match=r"2 invalid value") as caught:
        parse_experiment(minimal(train={"epochs": 0}, text={"p": 2}))
    assert "train.epochs" in str(caught.value)
    assert "text.p" in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"text": {"p": "often"}}, "text.p: input should be 'uniform', got 'often'"),
        ({"text": {"p": {"start": 0.1}}}, "text.p.end: missing"),
        ({"text": {"p": [0.1]}}, "text.p: input should be a valid number"),
        ({"train": {"workers": {"min": 3, "max": 1}}}, r"train.workers: .*max \(1\) is smaller than min \(3\)"),
        ({"train": {"workers": "two"}}, "train.workers: input should be a valid integer"),
        ({"text": {"mode": "multi"}, "train": {"loss": "siglip"}}, "use text.mode: both, or train.loss: clip"),
    ],
)
def test_the_error_of_a_union_is_about_the_intended_alternative(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        parse_experiment(minimal(**sections))
    assert "1 invalid value" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ({"p": 0.0}, False),
        ({"p": 0.1}, True),
        ({"p": "uniform"}, True),
        ({"p": {"start": 0.0, "end": 0.0}}, False),
        ({"p": {"start": 0.0, "end": 0.5}}, True),
        ({"p": 0.0, "mode": "both"}, True),
        ({"p": 0.0, "mode": "multi"}, True),
    ],
)
def test_rewrites_are_read_if_any_text_can_be_one(text: dict[str, Any], reads: bool) -> None:
    assert parse_experiment(minimal(text=text)).text.reads_rewrites == reads


def test_workers_may_be_a_range() -> None:
    train = parse_experiment(minimal(train={"workers": {"min": 1, "max": 3}, "batch_size": 8})).train
    assert (train.worker_range.min, train.worker_range.max) == (1, 3)
    assert parse_experiment(minimal(train={"workers": 2})).train.worker_range == WorkerRange(min=2, max=2)


def test_a_range_of_workers_takes_no_labels() -> None:
    with pytest.raises(UserError, match=r"train: .*label_selector.*accelerator_type"):
        parse_experiment(minimal(train={"workers": {"min": 1, "max": 2}, "label_selector": {"pool": "a"}}))
    for workers in (2, {"min": 2, "max": 2}):
        parse_experiment(minimal(train={"workers": workers, "label_selector": {"pool": "a"}}))
    parse_experiment(minimal(train={"workers": {"min": 1, "max": 2}, "accelerator_type": "L4"}))


def test_workers_must_divide_the_batch() -> None:
    with pytest.raises(UserError, match=r"train: .*batch_size \(10\) is not a multiple of workers \(3\)"):
        parse_experiment(minimal(train={"batch_size": 10, "workers": 3}))


def test_a_maximum_below_its_minimum_is_refused() -> None:
    with pytest.raises(UserError, match=r"rewrite\.engine\.actors: .*max \(1\) is smaller than min \(2\)"):
        parse_experiment(minimal(rewrite={"engine": {"actors": {"min": 2, "max": 1}}}))


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_a_file_must_hold_a_mapping(content: object) -> None:
    with pytest.raises(UserError, match="expected a mapping"):
        parse_experiment(content)


def test_a_missing_file_and_invalid_yaml_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: there is no such config file"):
        load_experiment("none.yaml")
    with pytest.raises(UserError, match="not readable as YAML"):
        load_experiment(write(tmp_path, "name: [a"))


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "+1e-3", ".1e-2", "0.001"])
def test_numbers_with_an_exponent_are_floats(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, f"name: a\noutput: b\ndata: {{path: c}}\ntrain: {{learning_rate: {text}}}\n")
    assert load_experiment(path).train.learning_rate == pytest.approx(1e-3)
    overridden = parse_experiment(minimal(), [f"train.learning_rate={text}"])
    assert overridden.train.learning_rate == pytest.approx(1e-3)


def test_overrides_reach_nested_values_and_missing_sections() -> None:
    experiment = parse_experiment(
        minimal(train={"epochs": 1}),
        ["train.epochs=3", "rewrite.engine.actors.max=4", "data.path=[a, b]", "tune.p=[0, 0.5]", "train.output=null"],
    )
    assert experiment.train.epochs == 3
    assert experiment.rewrite.engine.actors.max == 4
    assert experiment.data.path == ["a", "b"]
    assert experiment.tune.p == [0.0, 0.5]
    assert experiment.train.output is None


def test_the_last_override_wins() -> None:
    assert parse_experiment(minimal(), ["seed=1", "seed=2"]).seed == 2


def test_an_override_value_may_hold_an_equals_sign() -> None:
    assert parse_experiment(minimal(), ["output=s3://bucket/a=b"]).output == "s3://bucket/a=b"


@pytest.mark.parametrize("override", ["train.epochs", "=3", "  =3", "train.epochs=[1"])
def test_a_malformed_override_is_refused_with_its_text(override: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_experiment(minimal(), [override])
    assert repr(override) in str(caught.value)


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(UserError, match="'seed' is a value, not a section"):
        parse_experiment(minimal(seed=1), ["seed.more=3"])


def test_an_override_with_an_unknown_key_is_refused_with_its_path() -> None:
    with pytest.raises(UserError, match=r"train\.epoch: unknown key"):
        parse_experiment(minimal(), ["train.epoch=3"])


def test_overrides_do_not_change_the_content_argument() -> None:
    content = minimal(train={"epochs": 1})
    parse_experiment(content, ["train.epochs=3", "data.path=other"])
    assert content == minimal(train={"epochs": 1})


def test_environment_variables_are_replaced_in_every_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LACLIP_UNIT", "/there")
    experiment = parse_experiment(minimal(data={"path": ["${LACLIP_UNIT}/a", "b$c"]}, output="${LACLIP_UNIT}x"))
    assert experiment.data.path == ["/there/a", "b$c"]
    assert experiment.output == "/therex"


def test_an_unset_environment_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LACLIP_UNIT", raising=False)
    with pytest.raises(UserError, match="the environment variable LACLIP_UNIT is not set"):
        parse_experiment(minimal(output="${LACLIP_UNIT}/a"))


def test_fields_are_frozen_after_validation() -> None:
    experiment = parse_experiment(minimal())
    with pytest.raises(ValidationError, match="frozen"):
        experiment.seed = 3
    with pytest.raises(ValidationError, match="frozen"):
        experiment.train.epochs = 3


def test_with_overrides_validates_a_copy() -> None:
    experiment = parse_experiment(minimal(stream={"crop_scale": [0.2, 0.9]}))
    changed = with_overrides(experiment, {"text.p": 0.25, "seed": 7})
    assert (changed.text.p, changed.seed, experiment.seed) == (0.25, 7, 0)
    assert changed.stream == experiment.stream
    with pytest.raises(UserError, match=r"text\.p"):
        with_overrides(experiment, {"text.p": 2.0})


def test_outputs_default_to_directories_below_output() -> None:
    experiment = parse_experiment(minimal(output="s3://bucket/run/", tune={"output": "elsewhere"}))
    assert experiment.rewrite_output == "s3://bucket/run/rewrites"
    assert experiment.train_output == "s3://bucket/run/train"
    assert experiment.evaluate_output == "s3://bucket/run/evaluate"
    assert experiment.tune_output == "elsewhere"


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda text: "${" not in text
)
argument_names = texts.filter(lambda text: not is_secret_name(text))
"""The value of a key that names a secret is not written as it is."""
numberlike = st.sampled_from(["1e5", "1e-3", "3", "null", "true", "2024-01-01", "~", "0x1F", "1:30"])
experiments = st.fixed_dictionaries(
    {
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]*", fullmatch=True),
        "output": st.one_of(texts, numberlike),
        "seed": st.integers(),
        "data": st.fixed_dictionaries(
            {
                "path": st.one_of(texts, numberlike, st.lists(texts, max_size=3)),
                "columns": st.none() | st.lists(st.one_of(texts, numberlike)),
            }
        ),
        "train": st.fixed_dictionaries(
            {
                "learning_rate": st.floats(1e-12, 1e6),
                "epsilon": st.floats(1e-12, 1e-3),
                "epochs": st.integers(1, 10**6),
                "gradient_clip_norm": st.none() | st.floats(0.1, 10),
            }
        ),
        "tune": st.fixed_dictionaries({"p": st.lists(st.floats(0, 1), min_size=1)}),
        "stream": st.fixed_dictionaries({"crop_scale": st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted)}),
        "rewrite": st.fixed_dictionaries(
            {
                "engine": st.fixed_dictionaries(
                    {"args": st.dictionaries(argument_names, st.one_of(st.booleans(), st.integers(), numberlike))}
                )
            }
        ),
    }
)


@given(content=experiments)
def test_the_dumped_yaml_loads_as_an_equal_experiment(
    content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    experiment = parse_experiment(content)
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    path.write_text(to_yaml(experiment), encoding="utf-8")
    assert load_experiment(str(path)) == experiment


@given(epochs=st.integers(1, 10**9), p=st.lists(st.floats(0, 1), min_size=1), output=st.one_of(numberlike, texts))
def test_an_override_written_as_yaml_gives_its_value(epochs: int, p: list[float], output: str) -> None:
    quoted = "'" + output.replace("'", "''") + "'"
    experiment = parse_experiment(minimal(), [f"train.epochs={epochs}", f"tune.p={p}", f"output={quoted}"])
    assert experiment.train.epochs == epochs
    assert experiment.tune.p == p
    assert experiment.output == output


CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENTS = sorted(CONFIGS.glob("**/*.yaml"))
MARKS = ("certain", "from the authors' code", "unverified")


@pytest.fixture
def locations(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LACLIP_TEST_DATA", "LACLIP_DATA", "LACLIP_OUTPUT", "EVAL_DATA"):
        monkeypatch.setenv(name, f"s3://bucket/{name.lower()}")


def named(path: Path) -> str:
    """The experiment's name by its path below `configs/`."""
    return "-".join(path.relative_to(CONFIGS).with_suffix("").parts).replace("_", "-")


@pytest.mark.usefixtures("locations")
@pytest.mark.parametrize("path", EXPERIMENTS, ids=named)
def test_every_example_config_loads(path: Path) -> None:
    assert load_experiment(str(path)).name == named(path)


@pytest.mark.usefixtures("locations")
@pytest.mark.parametrize("name", ["cc3m", "cc12m", "redcaps", "laion400m"])
def test_the_papers_experiments_are_the_papers_preset_and_choice_of_texts(name: str) -> None:
    experiment = load_experiment(str(CONFIGS / "paper" / f"{name}.yaml"))
    rewrite, text = experiment.rewrite, experiment.text
    assert (rewrite.preset, rewrite.gate.preset, rewrite.template, rewrite.redraws) == (
        "paper",
        "paper",
        "reference",
        0,
    )
    assert (text.p, text.refused, text.choice) == ("uniform", "caption", "uniform")
    assert [Path(name).stem for name in rewrite.prompt_sets] == ["chatgpt", "bard", "mscoco", "human"]


@pytest.mark.parametrize("name", ["cc3m", "cc12m", "redcaps", "laion400m"])
def test_every_value_of_the_papers_training_says_how_it_is_known(name: str) -> None:
    lines = (CONFIGS / "paper" / f"{name}.yaml").read_text().splitlines()
    training = lines[lines.index("train:") + 1 : lines.index("evaluate:")]
    ours = ("workers", "cpus_per_worker", "local_loss")  # how a step is computed, not what it is
    values = [line for line in training if line.strip() and not line.strip().startswith(ours)]
    assert len(values) == 12
    assert [line for line in values if not any(mark in line for mark in MARKS)] == []


@pytest.mark.usefixtures("locations")
def test_the_training_of_cc12m_is_the_papers_by_default() -> None:
    ours, papers = (load_experiment(str(CONFIGS / path)).train for path in ("cc12m.yaml", "paper/cc12m.yaml"))
    assert ours.model_copy(update={"workers": papers.workers}) == papers


def test_every_stored_score_can_decide_p_and_every_score_of_a_rewrite_its_choice() -> None:
    assert {*get_args(PairScore)} == {*SCORES, LOG_PROBABILITY, "caption_words"}
    assert {*get_args(ChoiceScore)} == {*SCORES, LOG_PROBABILITY} - {"caption_picture"}


RAMP = {"by": "log_probability", "low": 0.2, "high": 0.8, "p_low": 1.0, "p_high": 0.0, "unscored": 0.5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": 0.8}, r"low \(0\.8\) is not smaller than high \(0\.8\)"),
        ({"unscored": None}, "unscored is missing: give the p of samples without the score log_probability"),
        ({"by": "beauty"}, r"text\.p\.by: input should be 'meaning'"),
        ({"p_low": 2.0}, r"text\.p\.p_low: input should be less than or equal to 1"),
    ],
)
def test_a_ramp_over_a_score_that_means_nothing_is_refused(changes: dict[str, Any], message: str) -> None:
    parse_experiment(minimal(text={"p": RAMP}))
    with pytest.raises(UserError, match=message):
        parse_experiment(minimal(text={"p": {**RAMP, **changes}}))


def test_the_variables_of_a_config_are_listed_once_in_their_order() -> None:
    content = {"output": "${B}/x/${A}", "data": {"path": ["${A}", {"deep": "${C_1}"}, 3, None]}, "${KEY}": "$D {E}"}
    assert named_variables(content) == ["B", "A", "C_1"]
