"""Secrets are recognised by name and in URLs, and replaced in every text."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laclip_ray import redaction
from laclip_ray.config import Experiment, parse_experiment, to_config, to_yaml, with_absolute_paths, with_overrides
from laclip_ray.redaction import (
    MARK,
    holds_secret,
    is_secret_name,
    redact,
    redacted,
    register_environment,
    register_secrets,
)
from tests.cases import case

SECTION = "Configs and secrets"


@pytest.fixture(autouse=True)
def _no_known_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", set())


@pytest.mark.parametrize(
    "name",
    [
        "hf_token",
        "AWS_SECRET_ACCESS_KEY",
        "apiKey",
        "X-Amz-Signature",
        "password",
        "client_secret",
        "account_key",
        "SAS",
    ],
)
def test_telling_names_are_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["max_tokens", "tokenizer", "output_tokens", "max_num_batched_tokens", "key", "SSH_AUTH_SOCK", "signal", "passes"],
)
def test_ordinary_names_are_not(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("https://me:pass@host/a", f"https://{MARK}@host/a"),
        ("https://ghp_abc@github.com/x", f"https://{MARK}@github.com/x"),
        ("ftp://me:pass@host/a b", f"ftp://{MARK}@host/a b"),
        ("abfs://container@account.dfs/x", "abfs://container@account.dfs/x"),
        ("s3://bucket/a?versionId=3", "s3://bucket/a?versionId=3"),
        (
            "see https://h/x?X-Amz-Credential=AK%2F1&X-Amz-Signature=ab12&X-Amz-Expires=60 (403)",
            f"see https://h/x?X-Amz-Credential={MARK}&X-Amz-Signature={MARK}&X-Amz-Expires=60 (403)",
        ),
        ("https://a.blob/c?sv=2020&sig=ab%3D&se=x", f"https://a.blob/c?sv=2020&sig={MARK}&se=x"),
        (
            "https://h/?AWSAccessKeyId=AK&Signature=q&Expires=1",
            f"https://h/?AWSAccessKeyId={MARK}&Signature={MARK}&Expires=1",
        ),
    ],
)
def test_secret_parts_of_urls_are_replaced(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean


def test_a_registered_secret_is_replaced_in_any_text() -> None:
    register_secrets({"engine": {"args": {"hf_token": "hf_abcdef123"}}, "urls": ["https://me:hunter22@host/a"]})
    assert redact("token hf_abcdef123, password hunter22") == f"token {MARK}, password {MARK}"


def test_short_values_are_not_registered() -> None:
    register_secrets({"token": "on"})
    assert redact("it goes on") == "it goes on"


@case(SECTION, "credentials in the environment that an error repeats", "the message shows *** for them", "-")
def test_the_environment_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    register_environment()
    assert redact("bad secret wJalrXUtnFEMI") == f"bad secret {MARK}"


@given(st.dictionaries(st.sampled_from(["a", "token", "b"]), st.text(max_size=20), max_size=3))
def test_redacting_twice_changes_nothing(content: dict[str, str]) -> None:
    assert redacted(redacted(content)) == redacted(content)


def secret_experiment(monkeypatch: pytest.MonkeyPatch, *overrides: str, **sections: Any) -> Experiment:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("DATA", "https://h/data?sig=topsecret1")
    content = {
        "name": "test",
        "output": "out/${USER_DIR}",
        "data": {"path": ["${DATA}", "b.tar"]},
        "rewrite": {"engine": {"args": {"hf_token": "${HF_TOKEN}"}}},
        **sections,
    }
    monkeypatch.setenv("USER_DIR", "me")
    return parse_experiment(content, overrides)


@case(SECTION, "a config with ${NAME}", "the run uses the value; files that it writes hold ${NAME}")
def test_the_written_form_keeps_the_names_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = secret_experiment(monkeypatch)
    assert experiment.rewrite.engine.args["hf_token"] == "hf_0123456789"  # noqa: S105 - made up
    written = experiment.as_written()
    assert written["rewrite"]["engine"]["args"] == {"hf_token": "${HF_TOKEN}"}
    assert written["data"]["path"] == ["${DATA}", "b.tar"]
    assert written["output"] == "out/${USER_DIR}"
    assert parse_experiment(written) == experiment


@case(SECTION, "a token or a signed URL as an override", "files and messages hold *** instead")
def test_literal_secrets_are_replaced_in_the_written_form(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["rewrite.engine.args.hf_token=hf_other9876", "data.path=https://me:secret77@h/a?token=abcdef99"]
    experiment = secret_experiment(monkeypatch, *overrides)
    for text in (str(experiment.as_written()), to_yaml(experiment), to_config(experiment)):
        assert not any(secret in text for secret in ("hf_other9876", "secret77", "abcdef99", "hf_0123456789"))
    assert experiment.as_written()["output"] == "out/${USER_DIR}"


def test_copies_keep_the_names_of_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = secret_experiment(monkeypatch)
    for copy in (
        with_absolute_paths(experiment, outputs=True),
        with_overrides(experiment, {"train.epochs": 3}),
        pickle.loads(pickle.dumps(experiment)),  # noqa: S301 - the test's own
    ):
        assert copy.as_written()["output"] == "out/${USER_DIR}"
    changed = with_overrides(experiment, {"output": "elsewhere", "data.path": "x.tar"}).as_written()
    assert (changed["output"], changed["data"]["path"]) == ("elsewhere", "x.tar")
    assert changed["rewrite"]["engine"]["args"] == {"hf_token": "${HF_TOKEN}"}


def test_a_section_registers_its_secrets_in_the_process_that_receives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(secret_experiment(monkeypatch).rewrite)
    monkeypatch.setattr(redaction, "_known", set())
    pickle.loads(sent)  # noqa: S301 - the test's own
    assert redact("it said hf_0123456789") == f"it said {MARK}"


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("hf_abc", "hf_token", True),
        ("${HF_TOKEN}", "hf_token", False),
        ("x${HF_TOKEN}", "hf_token", True),
        ("", "hf_token", False),
        ("https://me:pass@host/a", "path", True),
        ("https://me:${PASSWORD}@host/a", "path", False),
        ("https://${TOKEN}@host/a", "path", False),
        ("abfs://container@account/a", "path", False),
        ("s3://b/x?sig=${SIGNATURE}&part=2", "path", False),
        ("s3://b/x?sig=abc", "path", True),
        ("the registered hunter22 in a text", "note", True),
    ],
)
def test_a_secret_by_value_is_told_from_one_by_name(
    text: str, name: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "_known", {"hunter22"})
    assert holds_secret(text, name) is expected
