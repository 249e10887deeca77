import io

from laclip_ray import terminal
from laclip_ray.live.screen import Screen
from laclip_ray.progress.messages import Phase, TrainingStart


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_without_a_terminal_a_plain_line_comes_every_30_seconds() -> None:
    clock, err = Clock(), io.StringIO()
    screen = Screen(clock=clock)
    screen.take(TrainingStart("out", 0, 10, 1, 1))
    with terminal.shown_on(io.StringIO(), err):
        for second in range(95):
            clock.now_s = second
            screen.print_if_due()
    assert err.getvalue().splitlines() == ["training: step 0 of 10, epoch 0.00 of 1"] * 3


def test_without_a_terminal_there_are_no_control_codes() -> None:
    err = io.StringIO()
    with terminal.shown_on(io.StringIO(), err):
        screen = Screen()
        with screen.open():
            screen.take(Phase("k", "loading"))
            screen.take(Phase("k", "loading", "ended", 41.0))
    assert err.getvalue() == "loading ... 41 s\n"


def test_a_short_phase_leaves_no_line() -> None:
    err = io.StringIO()
    with terminal.shown_on(io.StringIO(), err):
        Screen().take(Phase("k", "loading", "ended", 0.1))
    assert err.getvalue() == ""


def test_a_quiet_screen_shows_nothing() -> None:
    clock, err = Clock(), Terminal()
    with terminal.shown_on(io.StringIO(), err):
        screen = Screen(is_quiet=True, clock=clock)
        with screen.open():
            screen.take(Phase("k", "loading", "ended", 41.0))
            clock.now_s = 100.0
            screen.print_if_due()
    assert err.getvalue() == ""


def test_on_a_terminal_lines_of_others_stand_above_the_status() -> None:
    err = Terminal()
    with terminal.shown_on(io.StringIO(), err):
        screen = Screen()
        with screen.open():
            screen.take(TrainingStart("out", 0, 10, 1, 1))
            print("a warning", file=terminal.err())
        shown = err.getvalue()
    assert "a warning" in shown
    assert "step 0 of 10" in shown
    assert terminal.err() is not err
