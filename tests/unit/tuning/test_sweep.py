"""A sweep whose runs depend on a score that their sets lack is refused before the first run."""

from pathlib import Path

import pytest

from laclip_ray.config import parse_experiment
from laclip_ray.errors import UserError
from laclip_ray.rewriting.transfer.import_texts import import_rewrites
from laclip_ray.tuning.space import listed_points
from laclip_ray.tuning.sweep import _make_rewrites, _readers
from laclip_ray.tuning.trial import run_experiment


def test_a_point_by_a_score_that_no_rewrite_has_is_refused(tmp_path: Path) -> None:
    captions, texts = tmp_path / "captions.csv", tmp_path / "texts.txt"
    captions.write_text("".join(f"{row}.jpg,a dog number {row}\n" for row in range(4)))
    texts.write_text("".join(f"dog number {row} on the grass\n" for row in range(4)))
    by_score = {"by": "log_probability", "low": -2, "high": -1, "p_low": 0.2, "p_high": 0.8, "unscored": 0.5}
    content = {
        "name": "sweep",
        "output": str(tmp_path / "out"),
        "data": {"path": str(captions), "columns": ["path", "caption"], "image_column": "path"},
        "rewrite": {"gate": {"meaning": None}},
        "text": {"rewrites": [str(tmp_path / "out" / "rewrites" / "texts")]},
    }
    import_rewrites(parse_experiment(content), str(captions), [str(texts)])
    for ps, is_refused in (([0.5, 0.8], False), ([0.5, by_score], True)):
        swept = parse_experiment({**content, "tune": {"p": ps}})
        runs = [run_experiment(swept, point, 0) for point in listed_points(swept.tune, swept.seed)]
        if is_refused:
            with pytest.raises(
                UserError, match=r"text\.p\.by: no accepted rewrite in .* has the score log_probability"
            ):
                _make_rewrites(swept, _readers(swept.tune, runs))
        else:
            assert len(_make_rewrites(swept, _readers(swept.tune, runs))) == 2
