"""Where each documented command runs: a chapter of commands, a dry run, another test; or why it runs nowhere.

A chapter runs in a world (`documented_world`), in order. Names in capitals, and addresses of stores, stand for paths of
the world (`STANDS_FOR`).
"""

import re
from collections.abc import Mapping

Chapter = Mapping[str, str]
"""By command as the page has it, the command as it runs; empty: the same, with `STANDS_FOR` applied."""

STANDS_FOR = {
    "s3://bucket/birds": "BUCKET/birds",
    "CONFIG": "birds.yaml",
    "OUTPUT": "runs/birds",
    "DATA": "birds",
    "RUN...": "runs/birds",
    "FILE.py": "pairs.py",
    "[key=value ...]": "seed=0",
    "[KEY=VALUE]...": "seed=0",
    "mine.yaml": "birds.yaml",
    "pictures.yaml": "birds.yaml",
    "config.yaml": "birds.yaml",
}
"""In this order. `BUCKET` is a bucket of a real S3 server."""

OWN_DATA: Chapter = {
    "laclip init s3://bucket/birds": "",
    "laclip init DATA": "laclip init DATA --force",
    "laclip data check birds.yaml": "",
    "laclip data check pictures.yaml --quiet": "",
    "laclip rewrites preview birds.yaml": "",
    "laclip rewrites preview CONFIG [--captions 50] [--seed 0] [--page PATH] [KEY=VALUE]...": (
        "laclip rewrites preview CONFIG --captions 5 --seed 0 --page preview.html [KEY=VALUE]..."
    ),
    "laclip doctor CONFIG [key=value ...] [--no-cluster]": "laclip doctor CONFIG [key=value ...] --no-cluster",
    "laclip doctor CONFIG [key=value ...]": "RAY_ADDRESS=HEAD:6379 laclip doctor CONFIG [key=value ...]",
    "laclip plan CONFIG": "",
    "laclip plan CONFIG [key=value ...]": "",
    "laclip estimate CONFIG [key=value ...]": "",
    "laclip run birds.yaml": "",
    "laclip run CONFIG [key=value ...]": "",
    "RAY_ADDRESS=HEAD:6379 laclip run mine.yaml": "",
    "laclip rewrite CONFIG [key=value ...]": "",
    "laclip rewrite CONFIG rewrite.budget.gpu_hours=100": "",
    "laclip rewrite CONFIG rewrite.price=h100 rewrite.budget.money=250": "",
    "laclip train CONFIG [key=value ...]": "",
    "laclip train birds.yaml text.p=0 train.output=runs/birds/clip": "",
    "laclip evaluate birds.yaml": "",
    "laclip evaluate CONFIG [key=value ...]": "",
    "laclip report birds.yaml": "",
    "laclip report birds.yaml runs/birds/clip": "",
    "laclip report RUN...": "",
    "laclip report RUN... [--page FILE] [--captions 48] [--seed 0]": (
        "laclip report RUN... --page page.html --captions 48 --seed 0"
    ),
    "laclip report s3://bucket/runs/a s3://bucket/runs/b --page s3://bucket/pages/ab.html": (
        "laclip report BUCKET/runs/a BUCKET/runs/b --page BUCKET/pages/ab.html"
    ),
    "laclip status OUTPUT": "",
    "laclip status pictures.yaml --json": "",
    "laclip status OUTPUT [--json]": "laclip status OUTPUT --json",
    "laclip rewrites inspect CONFIG [--reason R] [--set NAME] [--samples 10] [--seed 0] [--html FILE] [--captions 48] "
    "[KEY=VALUE]...": (
        "laclip rewrites inspect CONFIG --reason empty --set cleaned --samples 10 --seed 0 --html gallery.html "
        "--captions 48 [KEY=VALUE]..."
    ),
    "laclip rewrites retry CONFIG --reason R [--reason ...] [KEY=VALUE]...": (
        "laclip rewrites retry CONFIG --reason empty --reason engine_died [KEY=VALUE]..."
    ),
    "laclip rewrites export CONFIG OUTPUT --to parquet|text|webdataset [--partial] [KEY=VALUE]...": (
        "laclip rewrites export CONFIG exported --to webdataset --partial [KEY=VALUE]..."
    ),
    "laclip rewrites import CONFIG cc3m_original.csv cc3m_chatgpt.txt cc3m_bard.txt cc3m_mscoco.txt cc3m_human.txt": "",
    "laclip checkpoint export OUTPUT/train/export my_model": "",
    "laclip checkpoint export OUTPUT/train/export my_model --layout hugging_face": (
        "laclip checkpoint export OUTPUT/train/export transformers_model --layout hugging_face"
    ),
}

EXAMPLES: Chapter = {
    "export LACLIP_TEST_DATA=/path/to/data": "export LACLIP_TEST_DATA=data",
    "laclip rewrite configs/fluent_emoji.yaml": "",
    "laclip train configs/fluent_emoji.yaml": "",
    "laclip evaluate configs/fluent_emoji.yaml": "",
    "laclip report runs/fluent-emoji": "",
    "laclip evaluate configs/clothing_cc0.yaml": "",
    "laclip estimate configs/cc3m_validation.yaml": "",
    "laclip rewrite configs/cc3m_validation.yaml": "",
}

PAPER: Chapter = {
    "export LACLIP_DATA=s3://BUCKET/data LACLIP_OUTPUT=s3://BUCKET/runs": (
        "export LACLIP_DATA=datasets LACLIP_OUTPUT=outputs"
    ),
    "laclip estimate configs/cc12m.yaml": "",
    "laclip estimate configs/cc12m.yaml rewrite.price=l4 rewrite.engine.actors.max=4": "",
    "mkdir prompts": "",
    "laclip prompts import utils.py --source chatgpt_source_caption_list --target chatgpt_target_caption_list "
    "--output prompts/chatgpt.yaml": "",
    "laclip prompts import utils.py --source bard_source_caption_list --target bard_target_caption_list "
    "--output prompts/bard.yaml": "",
    "laclip prompts import utils.py --groups coco_caption_list --all-pairs --name mscoco "
    "--output prompts/mscoco.yaml": "",
    "laclip prompts import utils.py --source human_source_caption_list --target human_target_caption_list "
    "--output prompts/human.yaml": "",
    "laclip rewrites import configs/paper/cc12m.yaml cc12m_original.csv cc12m_chatgpt.txt cc12m_bard.txt "
    "cc12m_mscoco.txt cc12m_human.txt --name chatgpt --name bard --name mscoco --name human --join caption": "",
    "laclip train configs/paper/cc12m.yaml": "",
    "laclip evaluate configs/paper/cc12m.yaml": "",
    "laclip evaluate configs/paper/cc12m.yaml evaluate.checkpoint=cc12m_laclip": (
        "laclip evaluate configs/paper/cc12m.yaml evaluate.checkpoint=$LACLIP_OUTPUT/paper/cc12m/train/export"
    ),
    "laclip plan configs/paper/laion400m.yaml": "",
    "laclip estimate configs/paper/laion400m.yaml": "",
    "laclip rewrite configs/paper/laion400m.yaml rewrite.budget.gpu_hours=2": "",
    "laclip rewrite configs/paper/laion400m.yaml rewrite.budget.gpu_hours=10": "",
}

CALIBRATION: Chapter = {
    "laclip gate calibrate labelled.jsonl --precision 0.9": (
        "laclip gate calibrate labelled.jsonl --precision 0.9 --config calibrated.yaml"
    ),
}
"""With the encoder of a directory instead of the hub's."""

SHORT: Chapter = {
    "laclip prompts import FILE.py [--output FILE.yaml] [--name NAME]": (
        "laclip prompts import pairs.py --output sets/mine.yaml --name mine"
    ),
    "laclip prompts import utils.py --source chatgpt_source_caption_list --target chatgpt_target_caption_list": "",
    "laclip prompts import utils.py --source bard_source_caption_list --target bard_target_caption_list": "",
    "laclip prompts import utils.py --groups coco_caption_list --all-pairs --name mscoco": "",
    "laclip prompts import utils.py --source human_source_caption_list --target human_target_caption_list": "",
    "laclip --version": "",
    "export RAY_AUTH_MODE=token": "",
    "laclip submit run configs/cc12m.yaml ray.autoscaling=true rewrite.engine.gpus_per_actor=1 "
    "rewrite.engine.label_selector='{ray.io/market-type: spot}' rewrite.engine.args.max_num_seqs=128 "
    "rewrite.engine.args.max_num_batched_tokens=4096 train.gpus_per_worker=1 train.accelerator_type=H100 "
    "stream.label_selector='{ray.io/market-type: on-demand}' --address http://localhost:8265 --follow": (
        "laclip submit run configs/cc12m.yaml ray.autoscaling=true rewrite.engine.gpus_per_actor=1 "
        "rewrite.engine.label_selector='{ray.io/market-type: spot}' rewrite.engine.args.max_num_seqs=128 "
        "rewrite.engine.args.max_num_batched_tokens=4096 train.gpus_per_worker=1 train.accelerator_type=H100 "
        "stream.label_selector='{ray.io/market-type: on-demand}' --address http://localhost:8265 --follow --dry-run"
    ),
}
"""Commands that need neither Ray nor the results of others. The submission prints its package and sends none."""

_SWEEPS = (
    "tests/integration/test_tuning.py::"
    "test_a_sweep_trains_each_p_on_the_same_rewrites_a_rerun_trains_none_and_a_failing_point_is_named"
)
_CHAPTERS = "tests/integration/test_docs.py::test_the_commands_of_a_chapter_run"
RESOLVED = {
    "laclip tune configs/demo_sweep.yaml": _SWEEPS,
    "laclip tune config.yaml tune.seeds='[0, 1, 2]'": _SWEEPS,
    "laclip train CONFIG 'text.rewrites=[OUTPUT/rewrites/cc3m_chatgpt, ...]' text.p=0.8": _CHAPTERS,
    "laclip train configs/paper/cc12m.yaml text.p=0 train.output=$LACLIP_OUTPUT/paper/cc12m/clip": _CHAPTERS,
}
"""Commands whose config and overrides are resolved (`--dry-run`), and the test that runs the verb on others."""

_JOBS = "tests/integration/test_submit.py::"
_ENDS = f"{_JOBS}test_a_job_ends_with_the_runs_exit_code_and_a_line_that_names_it"
_STOPS = f"{_JOBS}test_a_second_submission_attaches_and_both_follow_the_job_to_its_stop"
_AT_HOME = "tests/unit/models/test_exporting.py::test_an_export_that_knows_its_home_needs_open_clip_alone"
ELSEWHERE = {
    "make demo": "tests/integration/test_demo.py::test_the_demo_prints_a_table_and_writes_a_report",
    "laclip report demo-output demo-output/p0-seed0 demo-output/p0.8-seed0": "tests/integration/test_demo.py::"
    "test_the_demo_prints_a_table_and_writes_a_report",
    "laclip demo --real": "tests/integration/test_real_model.py::"
    "test_the_real_demo_prints_rewrites_with_their_outcomes_and_writes_a_page",
    "laclip rewrites probe CONFIG [--seconds 120] [KEY=VALUE]...": "tests/unit/rewriting/forecasting/test_probe.py::"
    "test_the_verb_prints_each_trial_and_the_best",
    "laclip tune CONFIG [key=value ...]": _SWEEPS,
    "laclip run CONFIG 'track.report_to=[tensorboard, wandb]'": "tests/integration/test_trackers.py::"
    "test_every_tracker_has_one_run_with_each_step_once_its_config_and_its_table_across_a_kill",
    "laclip checkpoint import cc12m_laclip.pt cc12m_laclip": "tests/unit/models/test_importing.py::"
    "test_the_command_line_imports_and_exports",
    "laclip checkpoint export cc12m_laclip my_model --home hf-hub:ORGANISATION/NAME": _AT_HOME,
    "laclip checkpoint export cc12m_laclip /models/my_model --home local-dir:/models/my_model": _AT_HOME,
    "laclip submit VERB CONFIG --address URL": _ENDS,
    "laclip submit VERB CONFIG [key=value ...] --address http://HEAD:8265 --follow": _ENDS,
    "laclip submit run mine.yaml --address http://HEAD:8265 --follow": _ENDS,
    "laclip submit train mine.yaml --address http://HEAD:8265 --follow": _ENDS,
    "ray job status --address http://HEAD:8265 laclip-train-mine-1a2b3c4d": _ENDS,
    "ray job logs --address http://HEAD:8265 SUBMISSION_ID | tail -1": _ENDS,
    "ray job status --address http://HEAD:8265 SUBMISSION_ID": _ENDS,
    'curl --header "Authorization: Bearer $(cat ~/.ray/auth_token)" http://HEAD:8265/api/jobs/SUBMISSION_ID': _ENDS,
    "ray job stop --address http://HEAD:8265 laclip-train-mine-1a2b3c4d": _STOPS,
    "ray job submit --working-dir . -- python jobs/run.py CONFIG [key=value ...]": "tests/integration/"
    "test_real_engine.py::test_a_run_killed_in_the_middle_is_finished_by_a_job_and_leaves_no_engine_process",
    "laclip --install-completion": "tests/unit/cli/test_completion.py::test_verbs_options_values_and_paths_complete",
    "make docs": "tests/unit/test_docs_settings.py::test_the_page_is_what_the_generator_writes",
}
"""By command, the test that runs it or what it calls."""

_CLOUD = "needs a cloud"
_KUBERNETES = "needs Kubernetes"
_INSTALLS = "installs packages"
_SUITE = "runs the tests themselves, or a part of them"
_LONG = "trains six models and more; tests train two by the same code, and figures all"
NOT_RUN = {
    **dict.fromkeys(
        (
            "ray get-auth-token --generate",
            "ray up cluster/aws.yaml",
            "ray dashboard cluster/aws.yaml &",
            "ray down cluster/aws.yaml",
            "gcloud auth application-default login",
            "export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...",
            "sky jobs launch --secret AWS_ACCESS_KEY_ID --secret AWS_SECRET_ACCESS_KEY cluster/skypilot.yaml",
            "sky jobs logs --name laclip",
            "sky jobs cancel --name laclip",
            "docker build --file cluster/Dockerfile --tag REGISTRY/laclip-ray:ray-2.60.0 .",
            "docker push REGISTRY/laclip-ray:ray-2.60.0",
        ),
        _CLOUD,
    ),
    **dict.fromkeys(
        (
            "kubectl create secret generic laclip-credentials --from-env-file credentials.env",
            "kubectl apply -f cluster/kuberay/rayjob-run.yaml",
            "kubectl logs -f job/laclip-run",
            "kubectl get rayjob laclip-run",
            "kubectl delete rayjob laclip-run",
            "kubectl apply -f cluster/kuberay/rayjob-run-kueue.yaml",
            "kubectl get workloads",
        ),
        _KUBERNETES,
    ),
    **dict.fromkeys(
        (
            "uv venv --python 3.11 .venv",
            "uv pip install --no-deps -r requirements/gpu.lock",
            "uv pip install --no-deps -e .",
            "pip install boto3==1.43.117",
            "pip install 'laclip-ray[wandb]'",
            "pip install google-api-python-client==2.202.0",
            "git clone REPOSITORY laclip_ray && cd laclip_ray",
            ". .venv/bin/activate",
        ),
        _INSTALLS,
    ),
    **dict.fromkeys(
        (
            "make check",
            "make unit",
            "make test",
            "make test-full",
            "make models",
            "make object-store",
            "make trackers",
            "make figures AREA=path",
            ".venv/bin/python -m pytest -q tests/unit/rewriting/judging",
            ".venv/bin/python -m pytest -q tests/unit/rewriting/judging tests/unit/rewriting/test_recipe.py",
        ),
        _SUITE,
    ),
    **dict.fromkeys(("laclip demo --seeds 3", "laclip demo --sweep --seeds 3"), _LONG),
    "laclip demo --model NAME": "needs a GPU and a model of the hub",
    'clip_benchmark eval --model local-dir:OUTPUT/train/export --pretrained "" --dataset wds/NAME '
    "--dataset_root SETS/NAME --task zeroshot_classification --no_amp --output result.json": "needs CLIP_benchmark",
    "python -m open_clip_train.main --dataset-type webdataset --train-data 'OUTPUT/{00000..00331}.tar' "
    "--json-text-key 'original_caption;rewrite_cleaned;rewrite_crowd' --json-text-key-probs 1 1 1 ...": (
        "needs open_clip's main branch"
    ),
}
"""By command, why no test runs it. Its words, options and files are checked."""

CHAPTERS: Mapping[str, Chapter] = {
    "own data": OWN_DATA,
    "examples": EXAMPLES,
    "paper": PAPER,
    "calibration": CALIBRATION,
}
"""They run with Ray, in this order and in one world."""


def command_to_run(documented: str, runs_as: str) -> str:
    """The command as it runs in a world.

    Args:
        documented: as the page has it.
        runs_as: from a chapter.
    """
    text = runs_as or documented
    for name, path in STANDS_FOR.items():
        text = re.sub(rf"(?<![\w$]){re.escape(name)}(?!\w)", path, text)
    return text
