"""The command line: exit codes, and what `--dry-run` prints."""

from pathlib import Path

import pytest

from laclip_ray.cli import main
from laclip_ray.config import load_experiment
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting import pipeline

CONFIG = "name: test\noutput: out\ndata: {path: nowhere}\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return str(path)


def test_a_dry_run_prints_a_config_that_loads_to_the_same_experiment(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", config, "train.epochs=3", "text.p=0.25", "--dry-run"])
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    experiment = load_experiment(str(printed))
    assert (experiment.train.epochs, experiment.text.p) == (3, 0.25)
    assert experiment == load_experiment(config, ["train.epochs=3", "text.p=0.25"])


@pytest.mark.parametrize(("error", "code"), [(UserError("bad"), 2), (IncompleteError("unfinished"), 3)])
def test_errors_for_users_end_with_their_exit_code_and_message(
    config: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    code: int,
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "run_rewriting", fail)
    with pytest.raises(SystemExit) as stopped:
        main(["rewrite", config])
    assert stopped.value.code == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_errors_of_the_program_keep_their_traceback(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(pipeline, "run_rewriting", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["rewrite", config])
