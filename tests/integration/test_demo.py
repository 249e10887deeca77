"""The demo, small, with a scripted engine; `make demo` and the figures run it whole with a real one."""

from functools import partial
from pathlib import Path

import pytest

from laclip_ray.cli import main
from laclip_ray.demo import run
from tests.integration.scripted_engine import ScriptedEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def test_the_demo_prints_a_table_and_writes_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    size = run.Size(
        train_count=40, test_count=24, retrieval_count=12, samples_per_shard=20, epochs=1, batch_size=16, workers=1
    )
    monkeypatch.setattr(run, "run_demo", partial(run.run_demo, size=size, build_engine=ScriptedEngine))
    monkeypatch.chdir(tmp_path)
    main(["demo"])
    printed = capsys.readouterr().out
    output = tmp_path / "demo-output"
    runs = [output / "p0-seed0", output / "p0.8-seed0"]
    assert [(path / "train" / "summary.json").exists() for path in runs] == [True, True]
    for expected in ("CLIP, p = 0", "LaCLIP, p = 0.8", "top-1", f"report: {output}/report.html"):
        assert expected in printed
    report = (output / "report.html").read_text()
    for expected in ("LaCLIP, p = 0.8", "train-000000", "assistant_vivid", "data:image/jpeg;base64,", "<svg"):
        assert expected in report

    # A page about the demo's rewriting and both trainings.
    main(["report", "demo-output", "demo-output/p0-seed0", "demo-output/p0.8-seed0", "--page", "demo.html"])
    assert "p0.8-seed0" in Path("demo.html").read_text()
