"""`laclip init` replaces no config, and says what to run next."""

from pathlib import Path

import pytest

from laclip_ray.cli import main
from laclip_ray.errors import UserError
from laclip_ray.survey.starting import local_gpus, start
from tests import layouts


def test_an_existing_config_stays_without_force(tmp_path: Path) -> None:
    data = layouts.webdataset(tmp_path / "tars")
    (tmp_path / "mine.yaml").write_text("mine")
    with pytest.raises(UserError, match="--force"):
        start(data, str(tmp_path / "mine.yaml"), overwrite=False)
    assert (tmp_path / "mine.yaml").read_text() == "mine"
    start(data, str(tmp_path / "mine.yaml"), overwrite=True)
    assert (tmp_path / "mine.yaml").read_text() != "mine"


def test_a_config_needs_an_existing_directory(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^--output: the directory .*/none does not exist; make it, or choose another$"
    ):
        start(layouts.webdataset(tmp_path / "tars"), str(tmp_path / "none" / "mine.yaml"), overwrite=False)


def test_a_refusal_writes_nothing_and_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.json").write_text("[]")
    with pytest.raises(SystemExit) as exited:
        main(["init", str(tmp_path / "set")])
    assert exited.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["set"]


def test_the_next_two_commands_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["init", layouts.webdataset(tmp_path / "tars")])
    printed = capsys.readouterr().out
    assert "laclip data check tars.yaml" in printed
    assert "laclip rewrites preview tars.yaml" in printed
    main(["data", "check", "tars.yaml"])


def test_the_config_has_no_parent_directories_in_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = layouts.webdataset(tmp_path / "tars")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert start("../tars", None, overwrite=False).facts.data.path == data
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "work" / "link").symlink_to(tmp_path / "far" / "away")
    layouts.webdataset(tmp_path / "far" / "other")
    assert start("link/../other", None, overwrite=False).facts.data.path == str(tmp_path / "work/link/../other")


def test_a_path_that_a_config_would_expand_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rename"):
        start(str(tmp_path / "${HOME}"), None, overwrite=False)


def test_hidden_gpus_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_gpus() == 0
