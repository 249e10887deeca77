"""The commands that make sense after a verb, with the user's own config and overrides. Pure functions."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A command that makes sense now."""

    command: str
    """Ready for a shell."""
    why: str
    """Its result, in a few words."""


@dataclass(frozen=True)
class Given:
    """A config and overrides, as the user typed them."""

    config: str
    overrides: Sequence[str] = ()

    def command(self, verb: str, *options: str) -> str:
        """The command of a verb with this config and these overrides.

        >>> Given("my pictures.yaml", ["tune.p=[0, 1]"]).command("data check")
        "laclip data check 'my pictures.yaml' 'tune.p=[0, 1]'"
        """
        return shlex.join(["laclip", *verb.split(), self.config, *self.overrides, *options])

    def report(self, output: str) -> Step:
        """The report about the runs of this config.

        Args:
            output: where the runs are. It stands for the config if overrides say so: a report takes none.
        """
        moves = any(override.partition("=")[0].strip().split(".")[-1] == "output" for override in self.overrides)
        run = output if moves else self.config
        return Step(shlex.join(["laclip", "report", run]), "one page: results, pictures with rewrites, curves")

    def export(self) -> Step:
        """Write the rewrites as a table."""
        words = ["laclip", "rewrites", "export", self.config, "rewrites.parquet", *self.overrides, "--to", "parquet"]
        return Step(shlex.join(words), "the rewrites as one table")

    def _step(self, verb: str, why: str, *options: str) -> Step:
        return Step(self.command(verb, *options), why)

    def check(self) -> Step:
        """Look at the data."""
        return self._step("data check", "a sample of every shard")

    def preview(self) -> Step:
        """Rewrite a few captions."""
        return self._step("rewrites preview", "a few rewrites, and what all of them will take")

    def inspect(self) -> Step:
        """Look at rewrites."""
        return self._step("rewrites inspect", "accepted and refused rewrites, by reason")

    def rewrite(self) -> Step:
        """Rewrite all captions."""
        return self._step("rewrite", "the rewrites of all captions")

    def train(self) -> Step:
        """Train."""
        return self._step("train", "CLIP on captions and rewrites")

    def run(self) -> Step:
        """Rewrite and train."""
        return self._step("run", "rewrites, then CLIP on them; the same command resumes")

    def evaluate(self) -> Step:
        """Measure the model."""
        return self._step("evaluate", "what the model can do")


def after_init(given: Given) -> list[Step]:
    """After `laclip init` has written a config."""
    return [given.check(), given.preview()]


def after_check(given: Given) -> list[Step]:
    """After `laclip data check`, and after `laclip data index`."""
    return [given.preview()]


def after_preview(given: Given, trains: bool) -> list[Step]:
    """After `laclip rewrites preview`.

    Args:
        given: the config.
        trains: whether the data has pictures to train on.
    """
    if not trains:
        return [given.rewrite()]
    return [Step(given.command("plan"), "time and cost of rewriting and training"), given.run()]


def after_estimate(given: Given) -> list[Step]:
    """After `laclip estimate`."""
    return [given.preview(), given.rewrite()]


def after_plan(given: Given) -> list[Step]:
    """After `laclip plan`."""
    return [given.run()]


def after_doctor(given: Given) -> list[Step]:
    """After `laclip doctor` has found nothing wrong."""
    return [given.preview(), given.run()]


def after_probe(given: Given, overrides: Sequence[str]) -> list[Step]:
    """After `laclip rewrites probe`.

    Args:
        given: the config.
        overrides: settings faster than the configured ones.
    """
    return [Given(given.config, [*given.overrides, *overrides]).rewrite()]


def after_rewrite(given: Given, trains: bool) -> list[Step]:
    """After `laclip rewrite`, `laclip rewrites retry` and `laclip rewrites import`.

    Args:
        given: the config, with overrides that make training read the rewrites.
        trains: whether the data has pictures to train on.
    """
    return [given.inspect(), given.train() if trains else given.export()]


def after_train(given: Given, output: str, evaluates: bool) -> list[Step]:
    """After `laclip train` and `laclip run`.

    Args:
        given: the config.
        output: of the run; see `Given.report`.
        evaluates: whether the config names sets to measure the model on.
    """
    return [*([given.evaluate()] if evaluates else []), given.report(output)]


def after_evaluate(given: Given, output: str, evaluate_output: str) -> list[Step]:
    """After `laclip evaluate`.

    Args:
        given: the config.
        output: of the run; see `Given.report`.
        evaluate_output: the results.
    """
    compare = f"{shlex.join(['laclip', 'evaluate', '--compare', evaluate_output])} OTHER"
    return [given.report(output), Step(compare, "this model beside another one, image by image")]


def after_tune(given: Given, best: str | None, train_output: str, tune_output: str) -> list[Step]:
    """After `laclip tune`.

    Args:
        given: the config.
        best: the config of the best point; None without one.
        train_output: a new place for the run of the best point.
        tune_output: the sweep; see `Given.report`.
    """
    again = [] if best is None else [Given(best, [f"train.output={train_output}"]).train()]
    return [*again, given.report(tune_output)]


def after_demo(runs: Sequence[str]) -> list[Step]:
    """After `laclip demo`.

    Args:
        runs: outputs of its runs.
    """
    report = Step(shlex.join(["laclip", "report", *runs]), "its runs side by side: results, pictures, curves")
    return [*([report] if runs else []), Step("laclip init DATA", "a config for your own pictures")]


def after_model(checkpoint: str) -> list[Step]:
    """After `laclip checkpoint import`. CONFIG stands for an experiment with sets to measure a model on.

    Args:
        checkpoint: the imported model.
    """
    return [Given("CONFIG", [f"evaluate.checkpoint={checkpoint}"]).evaluate()]


def after_submit(again: Sequence[str], address: str, submission_id: str) -> list[Step]:
    """After `laclip submit`.

    Args:
        again: the words of the command that submitted the job, without `--follow`.
        address: of the job server.
        submission_id: of the job.
    """
    at = ["--address", address, submission_id]
    return [
        Step(shlex.join([*again, "--follow"]), "the job's log, to its end"),
        Step(shlex.join(["ray", "job", "status", *at]), "its state"),
        Step(shlex.join(["ray", "job", "stop", *at]), "stop it"),
    ]
