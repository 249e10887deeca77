"""The verbs: one command for each stage of an experiment, and the demo."""

from typing import Annotated

import typer

from laclip_ray.cli.ending import Ending, announce, finish, record
from laclip_ray.cli.next_steps import after_demo
from laclip_ray.cli.options import ConfigArgument, DryRunOption, OverridesArgument, console, read_experiment
from laclip_ray.cli.settings import remember
from laclip_ray.cli.working import working
from laclip_ray.errors import UserError


def rewrite(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Rewrite every caption that has no outcome yet."""
    experiment = read_experiment(config, overrides, dry_run, ("data",))
    announce(f"{config} -> {experiment.rewrite_output}", rewrites=experiment.rewrite_output)
    with working("rewrite", experiment.output):
        from laclip_ray.rewriting.running.pipeline import run_rewriting

        result = run_rewriting(experiment)
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.console import print_rewriting

    finish(
        Conclusions.of(config, overrides, experiment).rewritten(result),
        lambda: print_rewriting(console, result, experiment.rewrite_output),
    )


def estimate(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Estimate the tokens, GPU-hours and money that rewriting takes. Needs no GPU."""
    experiment = read_experiment(config, overrides, dry_run, ("data",))
    announce(f"{config}: counting captions and tokens")
    with working("estimate"):
        from laclip_ray.rewriting.forecasting.estimate import estimate_rewriting

        result = estimate_rewriting(experiment)
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.console import print_estimate

    finish(
        Conclusions.of(config, overrides, experiment).estimated(result),
        lambda: print_estimate(console, result),
    )


def train(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Train CLIP on captions and rewrites. Resumes from the newest checkpoint."""
    experiment = read_experiment(config, overrides, dry_run, ("data", "model"))
    announce(f"{config} -> {experiment.train_output}", training=experiment.train_output)
    with working("train", experiment.output):
        from laclip_ray.evaluation.during import evaluation_during
        from laclip_ray.training.run import run_training

        with evaluation_during(experiment) as followed:
            result = run_training(followed)
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.console import print_training

    finish(
        Conclusions.of(config, overrides, experiment).trained(result),
        lambda: print_training(console, result),
    )


def plan(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Show the stages of `laclip run`, and forecast each way to deliver rewrites. Starts no work."""
    experiment = read_experiment(config, overrides, dry_run, ("data", "model"))
    announce(f"{config}: looking at {experiment.output}")
    with working("plan"):
        from laclip_ray.onejob.plan import plan_run

        result = plan_run(experiment)
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.console import print_plan

    finish(
        Conclusions.of(config, overrides, experiment).planned(result),
        lambda: print_plan(console, result),
    )


def run_both(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Rewrite and train in one job, in the order of `rewrite.delivery`. The same command resumes both."""
    experiment = read_experiment(config, overrides, dry_run, ("data", "model"))
    announce(f"{config} -> {experiment.output}", rewrites=experiment.rewrite_output, training=experiment.train_output)
    with working("run", experiment.output):
        from laclip_ray.evaluation.during import evaluation_during
        from laclip_ray.onejob.run import run_one_job

        with evaluation_during(experiment) as followed:
            result = run_one_job(followed)
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.console import print_one_job

    finish(
        Conclusions.of(config, overrides, experiment).ran(result),
        lambda: print_one_job(console, result, experiment.rewrite_output),
    )


def evaluate(
    config: Annotated[
        str | None, typer.Argument(help="YAML file of the experiment; none with --compare.", metavar="CONFIG")
    ] = None,
    overrides: OverridesArgument = None,
    dry_run: DryRunOption = False,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Compare the outputs of two finished evaluations, image by image.", metavar="A B"),
    ] = None,
) -> None:
    """Measure a model: zero-shot, probes, few-shot, retrieval, robustness to wording."""
    if compare is not None:
        if config is not None:
            raise UserError("--compare takes two outputs and no config; leave out one of them")
        _compare(*compare)
        return
    if config is None:
        raise UserError("CONFIG is missing; give the YAML file of the experiment, or --compare A B")
    experiment = read_experiment(config, overrides, dry_run, ("evaluate",))
    announce(f"{config} -> {experiment.evaluate_output}", evaluation=experiment.evaluate_output)
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.evaluation.printing import print_evaluation
    from laclip_ray.evaluation.results import IncompleteEvaluationError

    conclusions = Conclusions.of(config, overrides, experiment)
    try:
        with working("evaluate", experiment.output):
            from laclip_ray.evaluation.run import run_evaluation

            results = run_evaluation(experiment)
    except IncompleteEvaluationError as error:
        record(summary=error.results, outputs=conclusions.evaluation_outputs)
        print_evaluation(console, error.results)
        raise
    finish(conclusions.evaluated(results), lambda: print_evaluation(console, results))


def _compare(first: str, second: str) -> None:
    """Compare two evaluations."""
    remember({"--compare": [first, second]})
    announce(f"A: {first}, B: {second}")
    from laclip_ray.evaluation.comparison import summary
    from laclip_ray.evaluation.printing import print_comparison
    from laclip_ray.evaluation.stored_results import compare_outputs

    rows = compare_outputs(first, second)
    finish(
        Ending(summary(rows), {"A": first, "B": second}, {"rows": rows}, is_in_details=True),
        lambda: print_comparison(console, first, second, rows),
    )


def tune(config: ConfigArgument, overrides: OverridesArgument = None, dry_run: DryRunOption = False) -> None:
    """Sweep the augmentation probability p and other settings of training."""
    experiment = read_experiment(config, overrides, dry_run, ("data", "model", "evaluate"))
    announce(f"{config} -> {experiment.tune_output}", sweep=experiment.tune_output)
    with working("tune", experiment.output):
        from laclip_ray.tuning.sweep import run_sweep

        sweep = run_sweep(experiment)
    from laclip_ray.cli.conclusions import Conclusions
    from laclip_ray.console import print_sweep

    finish(
        Conclusions.of(config, overrides, experiment).swept(sweep),
        lambda: print_sweep(console, sweep),
    )


def demo(
    output: Annotated[str, typer.Option(help="Directory for the world, the runs and the report.")] = "demo-output",
    model: Annotated[
        str | None, typer.Option(help="Rewrite with this model from the hub or a directory; a large one needs a GPU.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The model is an instruct model.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Train each p this many times.")] = 1,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Train at six values of p from 0 to 1, with Ray Tune.")
    ] = False,
    real: Annotated[
        bool,
        typer.Option(
            "--real", help="Rewrite captions as the web has them with a real instruct model, and train nothing."
        ),
    ] = False,
    encoder: Annotated[
        str | None,
        typer.Option(help="With --real: the gate's sentence encoder, from the hub or a directory. `none`: no encoder."),
    ] = None,
) -> None:
    """Run the whole path on a small drawn world: rewrite, train, evaluate, report."""
    if real:
        if sweep or seeds > 1:
            raise UserError("--real trains nothing; leave out --seeds and --sweep")
        _demo_real(output, model, encoder)
        return
    if encoder:
        raise UserError("--encoder needs --real: the demo's own rewriter needs no encoder")
    announce(f"a small drawn world -> {output}", output=output)
    with working("demo", output):
        from laclip_ray.demo.run import run_demo

        result = run_demo(console, output, model=model, chat=chat, seeds=seeds, sweep=sweep)
    finish(
        Ending(
            f"the demo is complete; report: {result.page}",
            {"output": output, "report": result.page},
            {"results": result.rows},
            after_demo(result.runs),
        )
    )


def _demo_real(output: str, model: str | None, encoder: str | None) -> None:
    announce(f"captions as the web has them -> {output}")
    from laclip_ray.config import MeaningGateConfig
    from laclip_ray.demo.real import REAL_MODEL, run_real_demo

    remember({"--model": model or REAL_MODEL, "--encoder": encoder or MeaningGateConfig().model})
    with working("demo", output):
        page, result = run_real_demo(console, output, model, encoder)
    finish(
        Ending(
            f"the demo is complete; report: {page}",
            {"output": output, "report": page},
            result.to_json(),
            after_demo(()),
        )
    )
