"""The command line: exit codes, and the output of commands."""

import errno
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from laclip_ray.cli import main
from laclip_ray.cli.interruptions import interruption_message
from laclip_ray.config import Experiment, load_experiment, parse_experiment
from laclip_ray.errors import IncompleteError, UserError
from laclip_ray.rewriting.prompting.prompts import built_in_prompt_sets, load_prompt_set
from laclip_ray.rewriting.running import pipeline
from laclip_ray.rewriting.running.result import RewritingResult
from tests.cases import case

CONFIG = "name: test\noutput: out\ndata: {path: anywhere}\n"


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A config whose data exists and is never read, in the current directory."""
    (tmp_path / "anywhere").mkdir()
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return str(path)


def first_words(verb: str, config: str, output: Path) -> str:
    """The line that a verb prints before it imports its libraries."""
    return f"laclip {verb}: {config} -> {output}\n"


def test_a_dry_run_prints_a_config_that_loads_to_the_same_experiment(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["train", config, "train.epochs=3", "text.p=0.25", "--dry-run"])
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    experiment = load_experiment(str(printed))
    assert (experiment.train.epochs, experiment.text.p) == (3, 0.25)
    assert experiment == load_experiment(config, ["train.epochs=3", "text.p=0.25"])


def test_the_package_runs_as_a_module(config: str) -> None:
    command = [sys.executable, "-m", "laclip_ray", "train", config, "--dry-run"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert parse_experiment(yaml.safe_load(printed)) == load_experiment(config)


def test_each_job_runs_the_verb_of_its_name() -> None:
    jobs = Path(__file__).parents[2] / "jobs"
    assert {path.stem for path in jobs.glob("*.py")} == {
        *("rewrite", "estimate", "train", "plan", "run", "evaluate", "tune", "doctor"),
    }
    for path in jobs.glob("*.py"):
        assert f'run_process(["{path.stem}", *sys.argv[1:]])' in path.read_text()


@pytest.mark.parametrize(("error", "code"), [(UserError("bad"), 2), (IncompleteError("unfinished"), 3)])
def test_user_errors_print_a_message_and_exit_with_their_code(
    config: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    error: Exception,
    code: int,
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "run_rewriting", fail)
    with pytest.raises(SystemExit) as stopped:
        main(["rewrite", config])
    assert stopped.value.code == code
    expected = first_words("rewrite", config, tmp_path / "out" / "rewrites")
    assert capsys.readouterr().err == f"{expected}error: {error}\n"


@case("How a run ends", "an error of the program, in any verb", "one line; the log has the traceback", exit_code=1)
def test_a_bug_is_told_in_a_line_and_its_traceback_is_in_a_log(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(pipeline, "run_rewriting", fail)
    assert exit_code(["rewrite", config]) == 1
    _, line = capsys.readouterr().err.splitlines()
    (log,) = tmp_path.glob("laclip-error-*.log")
    assert line == f"error: unexpected error: RuntimeError: a bug (traceback: {log})"
    assert f"laclip rewrite {config}" in log.read_text()
    assert 'in fail\n    raise RuntimeError("a bug")' in log.read_text()


def test_an_error_of_the_surroundings_names_the_setting(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/full/out/rewrites/summary.json")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(pipeline, "run_rewriting", fail)
    assert exit_code(["rewrite", config, "output=/full/out"]) == 4
    _, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: output: /full/out/rewrites/summary.json: the disk is full. Free")


@pytest.mark.parametrize("error", [EOFError("cut short"), BaseException("a panic")])
def test_errors_that_others_take_for_an_end_are_reported(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "run_rewriting", fail)
    assert exit_code(["rewrite", config]) == 1
    assert f"unexpected error: {type(error).__name__}: {error}" in capsys.readouterr().err


VERBS = (
    "rewrite",
    "train",
    "run",
    "tune",
    "evaluate",
    "estimate",
    "plan",
    "demo",
    "version",
    "status",
    "doctor",
    "submit",
)
GROUPS = {"prompts": ("list", "import"), "rewrites": ("inspect", "retry", "import", "export")}
GROUPS |= {"checkpoint": ("import", "export")}


@pytest.mark.parametrize(
    "words", [[verb] for verb in VERBS] + [[group, name] for group, names in GROUPS.items() for name in names], ids=str
)
def test_each_command_says_what_an_interruption_has_saved_and_how_to_continue(words: list[str]) -> None:
    for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")):
        message = interruption_message(number, [*words, "config.yaml"])
        assert message.startswith(f"stopped by {name}: ")
        assert "the same command" in message
        assert "\n" not in message


# Blocks in the middle of an import: early, in those of the command line, or late, in those of a verb.
INTERRUPTED_IMPORT = """
import sys, time

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            print("importing", file=sys.modules["laclip_ray.terminal"].out(), flush=True)
            time.sleep(60)

sys.meta_path.insert(0, Blocker())
from laclip_ray.cli import main
from laclip_ray.cli.interruptions import interruption_message
main(sys.argv[2:])
"""


@case("How a run ends", "Ctrl-C while a verb imports its libraries", "one sentence; no traceback", exit_code=130)
@case("How a run ends", "SIGTERM while a verb imports its libraries", "one sentence; no traceback", exit_code=143)
@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGINT, "Ctrl-C", 130), (signal.SIGTERM, "SIGTERM", 143)])
@pytest.mark.parametrize(("verb", "module"), [("train", "pydantic"), ("run", "torch")])
def test_a_signal_during_imports_ends_a_verb_with_a_sentence(
    config: str, tmp_path: Path, verb: str, module: str, number: signal.Signals, name: str, code: int
) -> None:
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, verb, config]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, printed) == (code, ""), errors
    message = interruption_message(number, [verb])
    assert message.startswith(f"stopped by {name}: ")
    begun = first_words(verb, config, tmp_path / "out") if module == "torch" else ""
    assert errors == f"{begun}{message}\n"


def test_the_built_in_prompt_sets_are_listed_with_their_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["prompts", "list"])
    printed = capsys.readouterr().out
    for name in built_in_prompt_sets():
        prompt_set = load_prompt_set(name)
        row = next(line for line in printed.splitlines() if f" {name} " in line)
        assert f" {len(prompt_set.pairs)} " in row
        assert prompt_set.description.split()[0] in row


def test_estimate_prints_and_writes_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "captions.jsonl").write_text('{"caption": "a small red box"}\n' * 3)
    path = tmp_path / "config.yaml"
    content = f"name: test\noutput: {tmp_path}/out\ndata: {{path: {tmp_path}/captions.jsonl}}\n"
    path.write_text(f"{content}rewrite: {{model: demo-rewriter}}\n")
    main(["estimate", str(path), "rewrite.price=l4", "rewrite.prompt_sets=[cleaned]"])
    printed = capsys.readouterr().out
    for expected in ("3 captions in 1 shards", "cleaned", "GPU-hours", "L4-24GB", "throughput: assumed"):
        assert expected in printed
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as stopped:
        main(["estimate", str(path), "rewrite.budget.money=5"])
    assert stopped.value.code == 2
    assert "rewrite.budget.money needs rewrite.price" in capsys.readouterr().err


def test_a_dataset_index_is_made_and_spares_opening_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "captions.jsonl").write_text('{"caption": "a small red box"}\n' * 3)
    path = tmp_path / "config.yaml"
    path.write_text(f"name: test\noutput: {tmp_path}/out\ndata: {{path: {tmp_path}/captions.jsonl}}\n")
    index = tmp_path / "out" / "data-index.parquet"
    main(["data", "index", str(path)])
    assert capsys.readouterr().out.splitlines()[0] == f"{index}: 1 shards, 3 rows"
    main(["data", "index", str(path)])
    assert "the dataset index is up to date (1 files)" in capsys.readouterr().out
    main(["data", "index", str(path), "--output", str(tmp_path / "elsewhere.parquet")])
    assert (tmp_path / "elsewhere.parquet").read_bytes() == index.read_bytes()


@pytest.fixture
def captions(tmp_path: Path) -> str:
    """Four captions in a CSV without a header."""
    path = tmp_path / "captions.csv"
    path.write_text("".join(f"{n}.jpg,a dog {n}\n" for n in range(4)))
    return str(path)


def exit_code(arguments: list[str]) -> int:
    """The exit code, 0 for a normal return."""
    try:
        main(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def test_rewrites_are_imported_inspected_and_exported(
    config: str, captions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = [f"data.path={captions}", "data.columns=[path, caption]", "data.image_column=path"]
    data += ["rewrite.gate.meaning=null"]
    (tmp_path / "cleaned.txt").write_text("".join(f"{text}\n" for text in ("the dog 0", "", "the dog 2", "the dog 3")))
    (tmp_path / "short.txt").write_text("the dog 0\n")
    assert exit_code(["rewrites", "import", config, captions, "cleaned.txt", "short.txt", *data]) == 2
    assert "short.txt has 1 lines, but" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

    assert exit_code(["rewrites", "import", config, captions, "cleaned.txt", *data]) == 0
    printed = capsys.readouterr().out
    assert "cleaned: 4 captions, 3 rewrites accepted; refused: empty 1" in printed
    sets = f"text.rewrites=[{tmp_path / 'out' / 'rewrites' / 'cleaned'}]"
    assert sets in printed
    assert exit_code(["rewrites", "import", config, captions, "cleaned.txt", *data]) == 0
    assert capsys.readouterr().out.startswith("nothing to do: imported 3 rewrites; train on them with 'text.rewrites=")

    assert exit_code(["rewrites", "inspect", config, "--reason", "empty", *data, sets]) == 0
    printed = capsys.readouterr().out
    assert "1.jpg (cleaned)" in printed
    assert "the dog" not in printed
    assert exit_code(["rewrites", "inspect", config, "--set", "unknown", *data, sets]) == 2

    for target, output in (("parquet", "all.parquet"), ("text", "texts")):
        export = ["rewrites", "export", config, output, "--to", target, *data, sets]
        assert exit_code(export) == 0
        assert "4 samples of 1 shards, 1 without a rewrite; rewrites: cleaned 3" in capsys.readouterr().out
        assert exit_code(export) == 2
    assert (tmp_path / "texts" / "cleaned.txt").read_text() == (tmp_path / "cleaned.txt").read_text()

    (tmp_path / "captions.csv").write_text("".join(f"{n}.jpg,a cat {n}\n" for n in range(4)))
    assert exit_code(["rewrites", "export", config, "more", "--to", "text", *data, sets]) == 3
    assert "captions of 1 shards have changed" in capsys.readouterr().err


def test_imports_say_which_rows_match_no_sample_or_several(
    config: str, captions: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Path(captions).read_text().splitlines()
    (tmp_path / "others.csv").write_text("".join(f"x/{row}\n" for row in [*rows, rows[0], "9.jpg,of no sample"]))
    (tmp_path / "cleaned.txt").write_text("".join(f"the new dog {number}\n" for number in range(len(rows) + 2)))
    data = [f"data.path={captions}", "data.columns=[path, caption]", "data.image_column=path"]
    command = ["rewrites", "import", config, "others.csv", "cleaned.txt", "rewrite.gate.preset=paper", *data]
    assert exit_code(command) == 2
    assert "Choose another --join (id, caption or basename)" in capsys.readouterr().err
    assert exit_code([*command, "--join", "caption"]) == 0
    printed = capsys.readouterr().out
    assert f"2 of {len(rows) + 2} rows match no sample: x/{rows[0].partition(',')[0]}, x/9.jpg" in printed
    assert "1 samples match several rows equally, and each took the next of them: 0.jpg" in printed
    assert exit_code([*command, "--join", "beauty"]) == 2


def test_retry_passes_only_known_reasons(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def run(experiment: Experiment, retry: list[str]) -> RewritingResult:
        calls.append((experiment.seed, retry))
        return RewritingResult(shards=1)

    monkeypatch.setattr(pipeline, "run_rewriting", run)
    assert exit_code(["rewrites", "retry", config, "--reason", "refusal", "--reason", "engine_died", "seed=3"]) == 0
    assert calls == [(3, ["refusal", "engine_died"])]
    assert "1 shards" in capsys.readouterr().out
    assert exit_code(["rewrites", "retry", config, "--reason", "rude"]) == 2
    assert "unknown rude; known are nothing_to_rewrite, empty, truncated, refusal" in capsys.readouterr().err
    assert exit_code(["rewrites", "retry", config]) == 2
    assert len(calls) == 1


def test_an_evaluation_takes_a_config_or_two_outputs(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["evaluate"]) == 2
    assert capsys.readouterr().err == (
        "error: CONFIG is missing; give the YAML file of the experiment, or --compare A B\n"
    )
    assert exit_code(["evaluate", config, "--compare", "a", "b"]) == 2
    assert capsys.readouterr().err == "error: --compare takes two outputs and no config; leave out one of them\n"


def test_labels_without_a_line_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.jsonl").write_text("\n")
    assert exit_code(["gate", "calibrate", "labels.jsonl"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: labels.jsonl: no labelled rewrite in this file; give JSON lines with the keys caption, rewrite and "
        "faithful"
    )
