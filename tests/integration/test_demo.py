"""The demo, small, with a scripted engine; `make demo` and the figures run it whole with a real one."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from laclip_ray.demo.run import Size, run_demo
from tests.integration.scripted_engine import ScriptedEngine

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def test_the_demo_prints_a_table_and_writes_a_report(tmp_path: Path) -> None:
    output = io.StringIO()
    size = Size(
        train_count=40, test_count=24, retrieval_count=12, samples_per_shard=20, epochs=1, batch_size=16, workers=1
    )
    console = Console(file=output, width=120)
    result = run_demo(console, str(tmp_path / "demo"), size=size, build_engine=ScriptedEngine)
    assert result.page == str(tmp_path / "demo" / "report.html")
    assert [Path(run, "train", "summary.json").exists() for run in result.runs] == [True, True]
    for expected in ("CLIP, p = 0", "LaCLIP, p = 0.8", "top-1"):
        assert expected in output.getvalue()
    report = (tmp_path / "demo" / "report.html").read_text()
    for expected in ("LaCLIP, p = 0.8", "train-000000", "assistant_vivid", "data:image/jpeg;base64,", "<svg"):
        assert expected in report
