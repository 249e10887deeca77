from laclip_ray.live.board import Board
from laclip_ray.progress.messages import (
    Count,
    EngineStart,
    EngineWork,
    Phase,
    Rewriting,
    RewritingEnd,
    TrainingEnd,
    TrainingRow,
    TrainingStart,
    TrainingStep,
    UnitDrawn,
    workers_key,
)


def work(engine: str, done: int, unit: str = "style/a", slots: int = 10, accepted: int = 5) -> EngineWork:
    return EngineWork(engine, {unit: UnitDrawn(done, 100)}, slots, accepted, prompt_tokens=100, cached_tokens=75)


def rewriting(units_done: int = 0, captions_done: int = 0, unit: str | None = None, failed: int = 0) -> Rewriting:
    return Rewriting(4, units_done, captions_done, 1, unit, failed=failed)


def test_captions_in_flight_count_as_done() -> None:
    board = Board(0.0)
    board.take(rewriting(), 0.0)
    board.take(work("one", 30), 1.0)
    assert board.rewriting is not None
    assert board.rewriting.done == 30


def test_a_committed_unit_counts_once_even_if_its_engine_is_heard_late() -> None:
    board = Board(0.0)
    board.take(rewriting(), 0.0)
    board.take(work("one", 100), 1.0)
    board.take(rewriting(1, 100, "style/a"), 2.0)
    board.take(work("one", 100), 3.0)
    assert board.rewriting is not None
    assert board.rewriting.done == 100


def test_unknown_units_count_as_the_mean_of_the_known_ones() -> None:
    board = Board(0.0)
    board.take(rewriting(1, 200, "style/z"), 0.0)
    board.take(work("one", 10), 1.0)  # 100 captions
    assert board.rewriting is not None
    assert board.rewriting.total == 200 + 100 + 2 * 150


def test_the_total_is_not_known_before_a_unit_is() -> None:
    board = Board(0.0)
    board.take(rewriting(), 0.0)
    assert board.rewriting is not None
    assert board.rewriting.total is None


def test_shares_are_over_all_engines() -> None:
    board = Board(0.0)
    board.take(rewriting(), 0.0)
    board.take(work("one", 10, slots=10, accepted=5), 1.0)
    board.take(work("two", 10, unit="style/b", slots=30, accepted=5), 1.0)
    assert board.rewriting is not None
    assert board.rewriting.accepted_share == 0.25
    assert board.rewriting.cached_share == 0.75


def test_engines_are_numbered_and_a_replacement_gets_a_number_of_its_own() -> None:
    board = Board(0.0)
    for engine in ("a", "b", "c"):
        board.take(EngineStart(engine, "model", 2), 0.0)
    texts = [phase.text for phase in board.phases.values()]
    assert texts == ["engine 1 of 2: loading model", "engine 2 of 2: loading model", "engine 3: loading model"]


def test_a_started_engine_ends_its_phase() -> None:
    board = Board(0.0)
    board.take(EngineStart("a", "model", 1), 0.0)
    ended = board.take(EngineStart("a", "model", 1, "ended", 41.0), 41.0)
    assert ended is not None
    assert (ended.text, ended.elapsed_s, board.phases) == ("engine 1 of 1: loading model", 41.0, {})


def test_workers_that_train_end_the_phase_of_their_start() -> None:
    board = Board(0.0)
    board.take(Phase(workers_key("out"), "starting 2 workers"), 1.0)
    ended = board.take(TrainingStart("out", 0, 100, 10, 2), 9.0)
    assert ended is not None
    assert (ended.text, ended.elapsed_s) == ("starting 2 workers", 8.0)
    assert board.trainings["out"].start.steps == 100


def test_training_keeps_its_newest_step_and_row_until_its_end() -> None:
    board = Board(0.0)
    board.take(TrainingStart("out", 5, 100, 10, 2), 0.0)
    board.take(TrainingRow("out", {"loss": 2.0}), 1.0)
    board.take(TrainingStep("out", 7), 1.0)
    assert (board.trainings["out"].step, board.trainings["out"].row) == (7, {"loss": 2.0})
    board.take(TrainingEnd("out"), 2.0)
    assert board.trainings == {}


def test_a_step_of_an_unknown_run_is_ignored() -> None:
    board = Board(0.0)
    board.take(TrainingStep("elsewhere", 7), 1.0)
    assert board.trainings == {}


def test_rewriting_and_counts_end() -> None:
    board = Board(0.0)
    board.take(rewriting(), 0.0)
    board.take(Count("k", "images", 1, 2), 0.0)
    board.take(RewritingEnd(), 1.0)
    board.take(Count("k", "images", 2, 2, is_over=True), 1.0)
    assert board.rewriting is None
    assert board.counts == {}
