"""The engine's arguments are checked without starting one."""

import pytest

from laclip_ray.config import DEMO_REWRITER, EngineConfig, RewriteConfig
from laclip_ray.doctor import engines
from laclip_ray.doctor.engines import check_engine_arguments
from laclip_ray.errors import UserError
from laclip_ray.rewriting.engines import arguments


def test_no_engine_starts_without_a_model() -> None:
    assert check_engine_arguments(RewriteConfig()).outcome == "skipped"


def test_an_environment_without_vllm_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    found = check_engine_arguments(RewriteConfig(model=DEMO_REWRITER))
    assert (found.outcome, found.detail) == ("failed", "vLLM is not installed")


def test_known_arguments_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "check_engine", lambda _: None)
    rewrite = RewriteConfig(model=DEMO_REWRITER, engine=EngineConfig(args={"max_model_len": 512}))
    assert check_engine_arguments(rewrite).detail == "vLLM knows max_model_len"


def test_a_model_directory_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="is not a directory with a model"):
        check_engine_arguments(RewriteConfig(model="/no/such/model"))
