import math

from hypothesis import given
from hypothesis import strategies as st

from laclip_ray.live.board import Board
from laclip_ray.live.wording import in_words_s, lines_of, phase_end
from laclip_ray.progress.messages import (
    Count,
    EngineWork,
    Message,
    Phase,
    Rewriting,
    TrainingRow,
    TrainingStart,
    TrainingStep,
    UnitDrawn,
)


def lines(*messages: tuple[float, Message], now_s: float) -> list[str]:
    board = Board(0.0)
    for at_s, message in messages:
        board.take(message, at_s)
    return [str(line) for line in lines_of(board, now_s)]


def test_rewriting_says_all_that_a_person_asks() -> None:
    begun = Rewriting(4, 0, 0, sets=2, spent="3.00 of 10 USD")
    first = EngineWork("a", {"s/a": UnitDrawn(0, 250)}, 0, 0, 0, 0)
    later = EngineWork("a", {"s/a": UnitDrawn(200, 250)}, 200, 150, 1_000, 740)
    assert lines((0.0, begun), (1.0, first), (21.0, later), now_s=21.0) == [
        "rewriting: 200 of about 1,000 captions x 2 prompt sets, 10/s, 1 min 20 s left, accepted 75%, cached 74%, "
        "1 engine, 3.00 of 10 USD"
    ]


def test_training_says_all_that_a_person_asks() -> None:
    row = {
        "loss": 2.5, "learning_rate": 1e-3, "logit_scale": 14.25, "images_per_s": 1234.5, "waiting_share": 0.02,
        "p": 0.8, "p_effective": 0.79,
    }  # fmt: skip
    start = TrainingStart("out/train", 0, 200, 10, 2)
    told = ((0.0, start), (1.0, TrainingRow("out/train", row)), (20.0, TrainingStep("out/train", 100)))
    assert lines(*told, now_s=20.0) == [
        "training: step 100 of 200, epoch 5.00 of 10, loss 2.5000, lr 1.0e-03, scale 14.2, 1,234 images/s, waiting 2%, "
        "p 0.8, shown 0.790, 20 s left"
    ]


def test_two_trainings_are_told_apart() -> None:
    told = [(0.0, TrainingStart(f"sweep/{name}/train", 0, 10, 1, 1)) for name in ("a", "b")]
    found = lines(*told, now_s=1.0)
    assert [line.split(":")[0] for line in found] == ["training a/train", "training b/train"]


def test_a_count_shows_its_pace() -> None:
    told = [(float(second), Count("k", "images of pets", 10 * second, 100)) for second in range(1, 6)]
    assert lines(*told, now_s=5.0) == ["images of pets: 50 of 100, 10/s, 5.0 s left"]


def test_before_anything_is_known_the_time_passes() -> None:
    assert lines(now_s=3.0) == ["working: 3.0 s"]


def test_a_phase_leaves_its_time() -> None:
    assert phase_end(Phase("k", "loading", "ended", 41.2)) == "loading ... 41 s"
    assert phase_end(Phase("k", "loading", "failed", 41.2)) == "loading ... failed after 41 s"


@given(
    st.dictionaries(st.sampled_from(["loss", "p", "images_per_s"]), st.text() | st.floats() | st.none() | st.booleans())
)
def test_a_forged_row_never_breaks_a_line(row: dict[str, object]) -> None:
    told = ((0.0, TrainingStart("out", 0, 10, 1, 1)), (0.0, TrainingRow("out", row)))
    (line,) = lines(*told, now_s=1.0)
    assert "\x1b" not in line
    assert "\n" not in line


def test_texts_from_data_lose_control_characters() -> None:
    assert lines((0.0, Count("k", "a\x1b[31m\nb", 1, None)), now_s=0.0) == ["a\\x1b[31m\\nb: 1"]


@given(st.floats(0, 1e9))
def test_a_duration_has_at_most_two_units(seconds: float) -> None:
    words = in_words_s(seconds).split()
    assert len(words) in (2, 4)
    assert math.isfinite(float(words[0]))
