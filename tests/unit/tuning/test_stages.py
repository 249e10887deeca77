"""A sweep's stored files: their names and keys stay, and a resume reads its state from them."""

from pathlib import Path

import pytest

from laclip_ray import storage
from laclip_ray.config import HalvingConfig
from laclip_ray.errors import UserError
from laclip_ray.tuning.paths import SweepPaths
from laclip_ray.tuning.space import Point
from laclip_ray.tuning.stages import (
    Cost,
    Stage,
    begin_point,
    begun_points,
    costs,
    end_point,
    ended_epoch,
    reached_epochs,
    read_stages,
)
from tests.cases import case

POINT = Point({"text.p": 0.5})


@pytest.fixture
def paths(tmp_path: Path) -> SweepPaths:
    return SweepPaths(str(tmp_path))


def write_stage(paths: SweepPaths, point: str, seed: int, epoch: int, money: float | None = None) -> None:
    content = {
        "point": point,
        "values": {"text.p": 0.5},
        "seed": seed,
        "epoch": epoch,
        "metrics": {"zero-shot/world/top1": 0.25},
        "p_effective": 0.49,
        "images": 100 * epoch,
        "gpu_hours": 0.5 * epoch,
        "money": money,
    }
    storage.write_json(paths.stage(point, seed, epoch), content)


def test_files_of_a_point_have_their_names(paths: SweepPaths, tmp_path: Path) -> None:
    begin_point(paths, POINT)
    end_point(paths, POINT, 3)
    write_stage(paths, POINT.name, 1, 3)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    directory = "trials/p0.5"
    assert files == {
        f"{directory}/point.json",
        f"{directory}/ended_early.json",
        f"{directory}/seed1/stages/epoch-00003.json",
    }
    assert storage.read_json(paths.values("p0.5")) == {"text.p": 0.5}
    assert storage.read_json(paths.ended_early("p0.5")) == {"epoch": 3}


def test_a_stage_is_read_as_it_was_written(paths: SweepPaths) -> None:
    write_stage(paths, "p0.5", 1, 3, money=2.0)
    (stage,) = read_stages(paths)
    assert stage == Stage("p0.5", {"text.p": 0.5}, 1, 3, {"zero-shot/world/top1": 0.25}, 0.49, 300, 1.5, 2.0)
    assert read_stages(paths, "p0.5") == [stage]
    assert read_stages(paths, "p1") == []


def test_begun_points_are_read_back(paths: SweepPaths) -> None:
    assert begun_points(paths) == []
    begin_point(paths, POINT)
    write_stage(paths, POINT.name, 0, 1)
    assert begun_points(paths) == [POINT]


def test_only_halving_ends_points_early(paths: SweepPaths) -> None:
    assert ended_epoch(paths, POINT, HalvingConfig()) is None
    end_point(paths, POINT, 3)
    assert ended_epoch(paths, POINT, HalvingConfig()) == 3
    assert ended_epoch(paths, POINT, None) is None


def test_a_point_has_reached_the_epoch_of_its_slowest_seed(paths: SweepPaths) -> None:
    for point, seed, epoch in (("a", 0, 2), ("a", 0, 4), ("a", 1, 2), ("b", 0, 4), ("c", 0, 2), ("c", 1, 2)):
        write_stage(paths, point, seed, epoch)
    assert reached_epochs(read_stages(paths), seeds=[0, 1]) == {"a": 2, "b": 0, "c": 2}


def test_a_point_costs_what_its_last_stages_say(paths: SweepPaths) -> None:
    for point, seed, epoch, money in (("a", 0, 2, 1.0), ("a", 0, 4, 3.0), ("a", 1, 2, 1.0), ("b", 0, 4, None)):
        write_stage(paths, point, seed, epoch, money)
    assert costs(read_stages(paths)) == {"a": Cost(3.0, 4.0), "b": Cost(2.0, 0.0)}


@pytest.mark.parametrize("kind", ["stage", "point", "end"])
@pytest.mark.parametrize("content", ["", '{"epoch": ', "null", "[3]"])
@case("Identity", "a damaged file of a sweep's point or stage", "refused, with the remedy", exit_code=2)
def test_damaged_files_are_named_with_a_remedy(paths: SweepPaths, kind: str, content: str) -> None:
    begin_point(paths, POINT)
    end_point(paths, POINT, 3)
    write_stage(paths, POINT.name, 1, 3)
    url = {
        "stage": paths.stage(POINT.name, 1, 3),
        "point": paths.values(POINT.name),
        "end": paths.ended_early(POINT.name),
    }[kind]
    Path(url).write_text(content)
    with pytest.raises(UserError, match=rf"^{url}: the .* cannot be read; the file is damaged .* Remove it, and"):
        (read_stages(paths), begun_points(paths), ended_epoch(paths, POINT, HalvingConfig()))
