"""`laclip doctor`: the verb."""

from typing import Annotated

import typer

from laclip_ray.cli.ending import Ending, announce, finish, record
from laclip_ray.cli.next_steps import Given, after_doctor
from laclip_ray.cli.options import ConfigArgument, DryRunOption, OverridesArgument, console, read_experiment
from laclip_ray.cli.working import working
from laclip_ray.errors import SurroundingsError
from laclip_ray.progress import tell
from laclip_ray.progress.messages import Phase
from laclip_ray.tally import first_names


def doctor(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    dry_run: DryRunOption = False,
    no_cluster: Annotated[
        bool, typer.Option("--no-cluster", help="Join no cluster, and start no Ray on this machine.")
    ] = False,
) -> None:
    """Check what a run needs: versions, cluster, GPUs, engine arguments, storage, disk, models. Starts no engine."""
    experiment = read_experiment(config, overrides, dry_run)
    announce(f"{config}: checking what a run needs")
    with working("doctor"):
        from laclip_ray.doctor.examination import examine

        results = examine(experiment, not no_cluster, lambda name: tell(Phase("check", f"checking: {name}")))
    from laclip_ray.doctor.printing import print_results

    summary = {"checks": results}
    if names := [result.name for result in results if result.outcome == "failed"]:
        record(summary=summary)
        print_results(console, results)
        raise SurroundingsError(
            f"{len(names)} of {len(results)} checks failed ({first_names(names)}). The table says what to do"
        )
    passed = sum(result.outcome == "passed" for result in results)
    finish(
        Ending(
            f"{config}: {passed} of {len(results)} checks passed, the others do not apply",
            {"config": config},
            summary,
            after_doctor(Given(config, overrides or ())),
        ),
        lambda: print_results(console, results),
    )
