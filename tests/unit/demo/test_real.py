"""The real demo's captions, its table, and its errors before any engine starts."""

import io
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from rich.console import Console

from laclip_ray.cli import main
from laclip_ray.config import RewriteConfig
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.demo import real
from laclip_ray.demo.real import real_experiment
from laclip_ray.reporting.gallery import Rewrite, RewrittenSample
from laclip_ray.rewriting.prompting.prompts import clean_caption


def test_the_captions_are_many_and_distinct_and_arrive_as_they_are_written() -> None:
    experiment = real_experiment("/nowhere")
    samples = [
        sample
        for shard in list_shards(experiment.data)
        for sample in read_samples(shard, experiment.data, with_images=False)
    ]
    written = [line.split("\t") for line in real.CAPTIONS.read_text(encoding="utf-8").splitlines()[1:]]
    assert [[sample.id, sample.caption] for sample in samples] == written
    assert len({clean_caption(sample.caption).lower() for sample in samples}) == len(samples) > 250
    assert len(list_shards(experiment.data)) > 1


def test_each_model_has_a_directory_of_its_own_and_only_the_default_one_a_revision() -> None:
    default, other = real_experiment("/out"), real_experiment("/out", "/models/small model")
    assert (default.output, other.output) == ("/out/real/Qwen2.5-0.5B-Instruct", "/out/real/small-model")
    assert (default.rewrite.revision, other.rewrite.revision) == (real.REAL_REVISION, None)
    assert {default.rewrite.mode, other.rewrite.mode} == {"chat"}


def test_the_table_shows_texts_as_they_are_and_escapes_control_characters() -> None:
    rewrites = (Rewrite("crowd", "a [bold]dog[/bold]", None), Rewrite("crowd", "a\x1b[2J", "looping"))
    console = Console(file=io.StringIO(), width=120)
    console.print(real._samples_table([RewrittenSample("1", None, ":dog: [red]", rewrites)]))
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    for expected in (":dog: [red]", "a [bold]dog[/bold]", "accepted", "a\\x1b[2J", "looping"):
        assert expected in printed
    assert "\x1b" not in printed


def test_without_a_network_the_demo_ends_with_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("out of reach")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--real", "--output", str(tmp_path / "out")])
    assert stopped.value.code == 4
    *_, printed = capsys.readouterr().err.splitlines()  # phases that take long say so
    assert printed.startswith(f"error: --model: {real.REAL_MODEL}: the Hugging Face hub cannot be reached. Connect")
    assert "give a local directory" in printed


@pytest.mark.parametrize("option", [[], ["--real"]])
def test_an_output_that_is_a_url_is_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", *option, "--output", "s3://bucket/demo"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --output: 's3://bucket/demo' is a URL, and the demo writes to a directory; give a local one"
    )


@pytest.mark.parametrize("option", [["--sweep"], ["--seeds", "2"]])
def test_options_of_training_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--real", *option])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: --real trains nothing; leave out --seeds and --sweep\n"


def test_the_encoder_can_be_chosen_and_left_out() -> None:
    assert real_experiment("/out").rewrite.gate == RewriteConfig().gate
    meaning = real_experiment("/out", encoder="/models/encoder").rewrite.gate.meaning
    assert meaning is not None
    assert meaning.model == "/models/encoder"
    assert real_experiment("/out", encoder=real.NO_ENCODER).rewrite.gate.meaning is None


def test_an_encoder_without_the_real_demo_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--encoder", "/models/encoder"])
    assert stopped.value.code == 2
    assert "--encoder needs --real" in capsys.readouterr().err


def test_a_directory_without_a_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--real", "--model", str(tmp_path), "--output", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "is not a directory with a model" in capsys.readouterr().err
