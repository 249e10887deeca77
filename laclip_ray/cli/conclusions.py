"""The ends of an experiment's verbs: results, places and next commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laclip_ray import storage
from laclip_ray.cli import next_steps
from laclip_ray.cli.ending import Ending
from laclip_ray.cli.next_steps import Given, Step
from laclip_ray.config import DataConfig, Experiment
from laclip_ray.printable import counted

if TYPE_CHECKING:
    from laclip_ray.onejob.plan import RunPlan
    from laclip_ray.onejob.run import OneJobResult
    from laclip_ray.rewriting.forecasting.estimate import Cost, Estimate
    from laclip_ray.rewriting.forecasting.preview import Preview, PreviewPlan
    from laclip_ray.rewriting.forecasting.preview_forecast import Forecast
    from laclip_ray.rewriting.inspection import Inspection
    from laclip_ray.rewriting.running.result import RewritingResult
    from laclip_ray.rewriting.transfer.import_texts import ImportResult
    from laclip_ray.training.summary import TrainingResult
    from laclip_ray.tuning.results import Sweep


@dataclass(frozen=True)
class Conclusions:
    """The ends of the verbs that take an experiment; each method is named after its work."""

    given: Given
    experiment: Experiment

    @classmethod
    def of(cls, config: str, overrides: Sequence[str] | None, experiment: Experiment) -> "Conclusions":
        """The conclusions of a command.

        Args:
            config: as the user typed it.
            overrides: as the user typed them.
            experiment: of both.
        """
        return cls(Given(config, tuple(overrides or ())), experiment)

    def rewritten(self, result: "RewritingResult") -> Ending:
        """The end of `laclip rewrite` and `laclip rewrites retry`."""
        output = self.experiment.rewrite_output
        done = f"{_rewrites(result)} in {output}"
        if not result.commits:
            done = f"nothing to do: every shard is rewritten ({result.shards:,}); {done}"
        return Ending(
            done,
            {"rewrites": output, "summary": storage.join(output, "summary.json")},
            result.to_json(),
            next_steps.after_rewrite(self.given, has_pictures(self.experiment.data)),
            nothing_to_do=not result.commits,
        )

    def imported(self, imported: "ImportResult") -> Ending:
        """The end of `laclip rewrites import`."""
        sets = f"text.rewrites=[{', '.join(imported.locations.values())}]"
        accepted = sum(counts.accepted for counts in imported.statistics.values())
        given = Given(self.given.config, [*self.given.overrides, sets])
        summary: dict[str, Any] = {"lines": imported.lines, "unused_lines": imported.unused_lines}
        summary |= {"commits": imported.commits, "commits_before": imported.commits_before}
        summary["ambiguous_samples"] = imported.ambiguous_samples
        done = f"imported {accepted:,} rewrites; train on them with '{sets}'"
        return Ending(
            done if imported.commits else f"nothing to do: {done}",
            imported.locations,
            {**summary, "sets": {name: counts.to_json() for name, counts in imported.statistics.items()}},
            next_steps.after_rewrite(given, has_pictures(self.experiment.data)),
            nothing_to_do=not imported.commits,
        )

    def inspected(self, inspection: "Inspection", page: str | None) -> Ending:
        """The end of `laclip rewrites inspect`.

        Args:
            inspection: the result.
            page: where the gallery was written. None: nowhere.
        """
        counts = inspection.statistics
        accepted = sum(each.accepted for each in counts.values())
        return Ending(
            f"{accepted:,} rewrites are accepted in {len(counts)} sets" + (f"; page: {page}" if page else ""),
            {"rewrites": self.experiment.rewrite_output, "page": page},
            {
                "sets": {name: {"shards": inspection.shards[name], **each.to_json()} for name, each in counts.items()},
                "scores": inspection.scores,
                "changed": inspection.changed,
                "notes": inspection.notes,
                "shown": inspection.shown,
            },
            [self.given.train() if has_pictures(self.experiment.data) else self.given.export()],
            is_in_details=page is None,
        )

    def previewed(
        self, plan: "PreviewPlan", preview: "Preview", expected: "Forecast", rest_s: float, page: str
    ) -> Ending:
        """The end of `laclip rewrites preview`.

        Args:
            plan: of the preview.
            preview: its outcome.
            expected: for the whole dataset.
            rest_s: seconds after the engine's start.
            page: path or URL.
        """
        from laclip_ray.rewriting.forecasting.preview_report import all_outcomes, figures

        trains = plan.shards[0].format == "webdataset" or self.experiment.data.image_column is not None
        return Ending(
            f"engine start {preview.start_s:.1f} s, the rest {rest_s:.1f} s; page: {page}",
            {"page": page},
            {
                "captions": len(preview.captions),
                "outcomes": all_outcomes(preview),
                "figures": figures(plan, preview, expected),
                "forecast": expected,
                "engine_start_s": preview.start_s,
                "rest_s": rest_s,
                "hardware": preview.hardware,
            },
            next_steps.after_preview(self.given, trains),
        )

    def estimated(self, estimate: "Estimate") -> Ending:
        """The end of `laclip estimate`."""
        about = "" if estimate.captions_are_counted else "about "
        return Ending(
            f"{about}{estimate.captions:,} captions with {estimate.model}: {_cost(estimate.costs, estimate.currency)}",
            {"rewrites": self.experiment.rewrite_output},
            {"estimate": estimate},
            next_steps.after_estimate(self.given),
        )

    def planned(self, plan: "RunPlan") -> Ending:
        """The end of `laclip plan`."""
        best = "" if plan.cheapest is None else f"; cheapest: {plan.cheapest.delivery}"
        left = f"{plan.left_share:.0%} of rewriting and {plan.steps_left:,} steps of training are left"
        return Ending(
            f"rewrite.delivery {plan.delivery}: {left}{best}",
            {"output": self.experiment.output},
            {"plan": plan, "cheapest": plan.cheapest and plan.cheapest.delivery},
            next_steps.after_plan(self.given),
        )

    def trained(self, result: "TrainingResult") -> Ending:
        """The end of `laclip train`."""
        steps = f"{result.summary['steps']:,} steps"
        what = f"nothing to do: this run is finished ({steps})" if result.was_finished else f"trained {steps}"
        return Ending(
            f"{what}; model: {result.export}",
            self._training_outputs(result),
            result.summary,
            self._after_training(),
            nothing_to_do=result.was_finished,
        )

    def ran(self, result: "OneJobResult") -> Ending:
        """The end of `laclip run`."""
        training = result.training
        is_finished = training.was_finished and not result.rewriting.commits
        what = f"{training.summary['steps']:,} steps on {_rewrites(result.rewriting)}"
        return Ending(
            f"{'nothing to do: this run is finished: ' if is_finished else ''}trained {what}; model: {training.export}",
            {
                "rewrites": self.experiment.rewrite_output,
                **self._training_outputs(training),
                "summary": storage.join(self.experiment.output, "run.json"),
            },
            {"rewriting": result.rewriting.to_json(), "training": training.summary, "timeline": result.timeline},
            self._after_training(),
            nothing_to_do=is_finished,
        )

    def _training_outputs(self, result: "TrainingResult") -> dict[str, str]:
        return {"training": self.experiment.train_output, "model": result.export}

    def _after_training(self) -> list[Step]:
        config = self.experiment.evaluate
        evaluates = bool(config.labelled or config.retrieval or config.sugar_crepe)
        return next_steps.after_train(self.given, self.experiment.output, evaluates)

    def evaluated(self, results: Mapping[str, Any]) -> Ending:
        """The end of `laclip evaluate`."""
        tasks = counted(len({(result["task"], result["dataset"]) for result in results["results"]}), "task")
        return Ending(
            f"evaluated {results['checkpoint']} on {tasks}; results: {self.experiment.evaluate_output}",
            self.evaluation_outputs,
            results,
            next_steps.after_evaluate(self.given, self.experiment.output, self.experiment.evaluate_output),
        )

    @property
    def evaluation_outputs(self) -> dict[str, str]:
        """Where an evaluation writes."""
        output = self.experiment.evaluate_output
        features = self.experiment.features_output
        return {"evaluation": output, "results": storage.join(output, "results.json"), "features": features}

    def swept(self, sweep: "Sweep") -> Ending:
        """The end of `laclip tune`."""
        from laclip_ray.tuning.paths import SweepPaths

        paths, content = SweepPaths(self.experiment.tune_output), sweep_json(sweep)
        complete = sum(point["mean"] is not None for point in content["points"].values())
        done = f"{complete:,} points are complete; best: {content['best'] or 'none'}; results: {paths.report}"
        return Ending(
            f"nothing to do: {done}" if sweep.was_finished else done,
            {"sweep": paths.location, "report": paths.report, "best": content["best"] and paths.best},
            content,
            next_steps.after_tune(
                self.given,
                paths.best if content["best"] and storage.is_local(paths.best) else None,
                storage.join(self.experiment.output, "best", "train"),
                self.experiment.tune_output,
            ),
            nothing_to_do=sweep.was_finished,
        )


def _rewrites(result: "RewritingResult") -> str:
    captions = max((counts.captions for counts in result.statistics.values()), default=0)
    return f"{result.total.accepted:,} rewrites of {captions:,} captions"


def _cost(costs: "Sequence[Cost]", currency: str) -> str:
    """The cost that comes first."""
    money = "" if costs[0].money is None else f", {costs[0].money:,.2f} {currency}"
    return f"{costs[0].gpu_hours:,.2f} GPU-hours{money} ({costs[0].name})"


def sweep_json(sweep: "Sweep") -> dict[str, Any]:
    """A sweep's points and verdicts for machines."""
    from statistics import fmean

    from laclip_ray.tuning.comparison import best_point

    values = sweep.values(sweep.metric) if sweep.metrics else {}
    points: dict[str, dict[str, Any]] = {
        stage.point: {"values": stage.values, "by_seed": {}, "mean": None} for stage in sweep.stages
    }
    for point, by_seed in values.items():
        points[point] |= {"by_seed": by_seed, "mean": fmean(by_seed.values())}
    return {
        "metric": sweep.metric,
        "points": points,
        "best": best_point(values) if values else None,
        "baselines": sweep.baselines,
        "verdicts": sweep.verdicts(),
    }


def has_pictures(data: DataConfig) -> bool:
    """Whether data may have pictures to train on, by its settings and the names of its files."""
    from laclip_ray.data.file_formats import kind_of
    from laclip_ray.data.path_patterns import single_paths

    if data.image_column is not None or data.format != "auto":
        return data.image_column is not None or data.format == "webdataset"
    return any(kind_of(path).format in ("webdataset", None) for path in single_paths(data.path))
