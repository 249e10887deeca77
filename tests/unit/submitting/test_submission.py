"""What a submission sends, what it refuses, and when it attaches."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from laclip_ray import redaction
from laclip_ray.errors import UserError
from laclip_ray.submitting import package
from laclip_ray.submitting.submission import JobExistsError, OwnDirectory, prepare, send
from tests.cases import case

CONFIG = """
name: mine
output: ${OUT}/mine  # ${COMMENTED}
data: {path: "s3://bucket/data/*.tar"}
rewrite: {model: some/model, prompt_sets: [cleaned, sets/dogs.yaml]}
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a config, a prompt set and data."""
    directory = tmp_path / "project"
    (directory / "sets").mkdir(parents=True)
    (directory / "data").mkdir()
    (directory / "data" / "0.tar").write_bytes(b"a shard")
    (directory / "mine.yaml").write_text(CONFIG)
    (directory / "sets" / "dogs.yaml").write_text("name: dogs\n")
    monkeypatch.chdir(directory)
    monkeypatch.setenv("OUT", "s3://bucket/runs")
    monkeypatch.setattr(redaction, "_known", set())
    return directory


class Cluster:
    """A job server that remembers what it was sent."""

    def __init__(self, jobs: Mapping[str, str] = {}, rival: bool = False) -> None:
        self.jobs = dict(jobs)
        self.rival = rival
        """Whether another process submits the same job between the question and the submission."""
        self.sent: list[dict[str, Any]] = []

    def statuses(self) -> dict[str, str]:
        return dict(self.jobs)

    def submit(
        self, submission_id: str, entry_point: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]
    ) -> None:
        if self.rival:
            self.jobs[submission_id] = "PENDING"
        if submission_id in self.jobs:
            raise JobExistsError(submission_id)
        root = Path(runtime_env["working_dir"])
        files = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        self.sent.append({"entry": entry_point, "files": files, "environment": runtime_env, "metadata": metadata})
        self.jobs[submission_id] = "PENDING"


def test_the_config_its_settings_files_and_its_variables_travel(project: Path) -> None:
    cluster = Cluster()
    attempt = send(cluster, prepare("rewrite", "mine.yaml", ["seed=3", "rewrite.sampling={temperature: 0.5}"]))
    (sent,) = cluster.sent
    assert sent["files"] == {
        "mine.yaml": (project / "mine.yaml").read_bytes(),
        "sets/dogs.yaml": (project / "sets" / "dogs.yaml").read_bytes(),
    }
    assert shlex.split(sent["entry"]) == [
        *("python", "-m", "laclip_ray", "rewrite", "mine.yaml", "seed=3", "rewrite.sampling={temperature: 0.5}"),
    ]
    assert sent["environment"]["env_vars"] == {"OUT": "s3://bucket/runs"}
    assert sent["metadata"]["name"] == "mine"
    assert attempt.submission_id == f"laclip-rewrite-mine-{sent['metadata']['fingerprint'][:8]}"


def test_a_config_from_elsewhere_travels_by_its_name(project: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG)
    for config in ("../mine.yaml", str(tmp_path / "mine.yaml")):
        submission = prepare("rewrite", config)
        assert submission.entry_point.endswith("rewrite mine.yaml")
        assert submission.files["mine.yaml"] == CONFIG.encode()


def test_a_config_with_the_name_of_a_settings_file_replaces_none(project: Path, tmp_path: Path) -> None:
    (project / "dogs.yaml").write_text("name: dogs\n")
    (tmp_path / "dogs.yaml").write_text(CONFIG.replace("sets/dogs.yaml", "dogs.yaml"))
    submission = prepare("rewrite", "../dogs.yaml")
    assert {*submission.files} == {"dogs.yaml", "submitted-dogs.yaml"}
    assert submission.entry_point.endswith("rewrite submitted-dogs.yaml")


def test_a_comment_or_an_edited_order_changes_no_id_but_a_settings_file_does(project: Path) -> None:
    first = prepare("rewrite", "mine.yaml").first_id
    (project / "mine.yaml").write_text(CONFIG + "# a comment\nseed: 0\n")
    assert prepare("rewrite", "mine.yaml").first_id == first
    assert prepare("rewrite", "mine.yaml", ["seed=1"]).first_id != first
    assert prepare("estimate", "mine.yaml").first_id != first
    (project / "sets" / "dogs.yaml").write_text("name: dogs\ndescription: other\n")
    assert prepare("rewrite", "mine.yaml").first_id != first


def test_a_second_submission_attaches_and_one_after_the_end_is_a_new_attempt() -> None:
    cluster = Cluster()
    submission = prepare("rewrite", "mine.yaml")
    first = send(cluster, submission)
    assert not first.attaches
    assert send(cluster, submission).attaches
    for status in ("SUCCEEDED", "FAILED", "STOPPED"):
        cluster.jobs = {first.submission_id: status}
        again = send(cluster, submission)
        assert again.submission_id == f"{first.submission_id}-2"
        assert again.before == (first.submission_id, status)


def test_two_submissions_at_once_are_one_job() -> None:
    cluster = Cluster(rival=True)
    attempt = send(cluster, prepare("rewrite", "mine.yaml"))
    assert (attempt.attaches, cluster.sent) == (True, [])


@case("Configs and secrets", "a secret's `${NAME}` in a submitted config", "travels by name, and is named", exit_code=0)
def test_secrets_travel_by_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "mine.yaml").write_text(CONFIG + "evaluate: {others: []}\nseed: 0\n")
    text = CONFIG.replace("model: some/model", "model: some/model, engine: {args: {hf_token: '${HF_TOKEN}'}}")
    (project / "mine.yaml").write_text(text)
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    monkeypatch.setenv("OUT", "https://me:password@host/runs")
    monkeypatch.setenv("PLAIN", "1")
    submission = prepare("rewrite", "mine.yaml", variables=["PLAIN", "AWS_SECRET_ACCESS_KEY"])
    assert submission.variables.values == {"PLAIN": "1"}
    assert submission.variables.by_name == ("OUT", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY")
    everything = repr(submission)
    assert "hf_0123456789" not in everything
    assert "password" not in everything
    fingerprint = submission.metadata["fingerprint"]
    monkeypatch.setenv("HF_TOKEN", "hf_9876543210")
    again = prepare("rewrite", "mine.yaml", variables=["PLAIN", "AWS_SECRET_ACCESS_KEY"])
    assert again.metadata["fingerprint"] == fingerprint, "the id depends on a secret"


def test_a_secret_that_only_the_cluster_has_is_not_needed_here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = CONFIG.replace("model: some/model", "model: some/model, engine: {args: {hf_token: '${HF_TOKEN}'}}")
    (project / "mine.yaml").write_text(text)
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    here = prepare("rewrite", "mine.yaml")
    monkeypatch.delenv("HF_TOKEN")
    there = prepare("rewrite", "mine.yaml")
    assert (there.first_id, there.variables) == (here.first_id, here.variables)


@case("Configs and secrets", "a secret by value in a submitted config or override", "refused; nothing is sent", 2)
@pytest.mark.parametrize(
    ("change", "overrides", "message"),
    [
        ("", ["rewrite.engine.args.hf_token=hf_0123"], r"override rewrite\.engine\.args\.hf_token: it holds a secret"),
        ("", ["rewrite.engine={args: {hf_token: hf_0123}}"], r"override rewrite\.engine: it holds a secret"),
        ("rewrite: {engine: {args: {hf_token: hf_0123}}}", [], r"mine\.yaml: rewrite\.engine\.args\.hf_token holds"),
        ("data: {path: 'https://me:pw@host/x.tar'}", [], r"mine\.yaml: data\.path holds a secret"),
        ("# see https://host/x?sig=0123", [], r"mine\.yaml: the file holds a secret, perhaps in a comment"),
    ],
)
def test_a_secret_by_value_is_refused(project: Path, change: str, overrides: list[str], message: str) -> None:
    (project / "mine.yaml").write_text(f"name: mine\noutput: s3://b/out\ndata: {{path: s3://b/x}}\n{change}\n")
    if change.startswith("data"):
        (project / "mine.yaml").write_text(f"name: mine\noutput: s3://b/out\n{change}\n")
    with pytest.raises(UserError, match=message):
        prepare("rewrite", "mine.yaml", overrides)


@case("Configs and secrets", "a relative output or data path in a submitted config", "refused; nothing is sent", 2)
@pytest.mark.parametrize(
    ("verb", "override", "message"),
    [
        ("rewrite", "output=runs", r"output: 'runs' is a relative path, and would be lost with the job's directory"),
        ("train", "train.output=./runs", r"train\.output: '\./runs' is a relative path, and would be lost"),
        ("train", "data.path=data/*.tar", r"data\.path: 'data/\*\.tar' is a relative path, and data and models do not"),
        ("train", "text.rewrites=[out/cleaned]", r"text\.rewrites: 'out/cleaned' is a relative path"),
        ("evaluate", "evaluate.checkpoint=./export", r"evaluate\.checkpoint: './export' is a relative path"),
        ("train", "model.name=../small.json", r"model\.name: '\.\./small\.json' leads out of the directory"),
        ("train", "model.name=small.json", r"small\.json: there is no such file"),
        ("sing", "seed=1", "sing: not a verb that can be submitted; these can: rewrite, train"),
    ],
)
def test_what_does_not_travel_is_refused_with_the_reason(verb: str, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(verb, "mine.yaml", [override])


def test_paths_that_a_verb_does_not_use_are_its_own_business(project: Path) -> None:
    prepare("rewrite", "mine.yaml", ["evaluate.checkpoint=./export", "model.name=small.json"])


def test_templates_under_a_key_of_a_json_file_travel(project: Path) -> None:
    (project / "slip.json").write_text('{"flowers": ["a {c}"]}')
    labelled = "evaluate.labelled=[{name: f, path: 's3://b/f', templates: 'slip.json#flowers'}]"
    submission = prepare("evaluate", "mine.yaml", [labelled])
    assert {*submission.files} == {"mine.yaml", "slip.json"}


def test_a_settings_file_with_a_secret_is_refused(project: Path) -> None:
    (project / "sets" / "dogs.yaml").write_text("name: dogs\n# https://host/x?sig=0123\n")
    with pytest.raises(
        UserError, match=r"^sets/dogs\.yaml: the file holds a secret, which does not travel\. Remove it"
    ):
        prepare("rewrite", "mine.yaml")


def test_a_large_settings_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MAX_FILE_BYTES", 5)
    with pytest.raises(UserError, match=r"sets/dogs\.yaml: 11 bytes are too many for a settings file"):
        prepare("rewrite", "mine.yaml")


def test_a_variable_that_is_not_set_here_is_refused() -> None:
    with pytest.raises(UserError, match="the environment variable NOWHERE is not set here"):
        prepare("rewrite", "mine.yaml", variables=["NOWHERE"])


def test_a_directory_of_the_users_travels_as_a_whole(project: Path) -> None:
    cluster = Cluster()
    directory = OwnDirectory(project, ("data/big",))
    send(cluster, prepare("train", "mine.yaml", ["data.path=data/*.tar"], directory, python="/opt/python"))
    (sent,) = cluster.sent
    assert {*sent["files"]} == {"mine.yaml", "sets/dogs.yaml", "data/0.tar"}
    assert sent["environment"]["excludes"] == ["data/big"]
    assert sent["entry"].startswith("/opt/python -m laclip_ray train mine.yaml")
    with pytest.raises(UserError, match=r"data\.path: there is no none/\*\.tar in"):
        prepare("train", "mine.yaml", ["data.path=none/*.tar"], directory)
    with pytest.raises(UserError, match="output: 'runs' is a relative path"):
        prepare("train", "mine.yaml", ["output=runs"], directory)
    with pytest.raises(UserError, match=r"mine\.yaml: lies outside of .*sets, the directory that travels"):
        prepare("train", "mine.yaml", ["rewrite.prompt_sets=[cleaned]"], OwnDirectory(project / "sets"))
