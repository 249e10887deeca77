"""The image: built from the lock, for a user that is not root, byte-compiled, without weights, and small to send."""

import fnmatch
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from laclip_ray import cluster
from tests.unit.cluster_files.checks import CLUSTER, REPOSITORY, locked_version

LOCK = REPOSITORY / "requirements" / "gpu.lock"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each as (keyword, rest)."""
    text = re.sub(r"^#.*\n", "", (CLUSTER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in lines if line)]


def rest_of(keyword: str) -> list[str]:
    """What follows each instruction of this kind."""
    return [rest for each, rest in instructions() if each == keyword]


def installs() -> list[str]:
    """The `uv pip install` commands."""
    return [command for rest in rest_of("RUN") for command in re.findall(r"uv pip install [^&]*", rest)]


def copies() -> Iterator[tuple[str, str]]:
    """The files and directories that the image gets, each as (source, target)."""
    for rest in rest_of("COPY"):
        *sources, target = rest.split()
        yield from ((source, target) for source in sources)


def locked() -> dict[str, str]:
    """The version of each package of the lock."""
    lines = [line for line in LOCK.read_text().splitlines() if line and not line.startswith("#")]
    return dict(re.fullmatch(r"(\S+)==(\S+)", line).groups() for line in lines)  # type: ignore[union-attr,misc]


def test_the_image_is_built_from_the_lock_alone() -> None:
    text = (CLUSTER / "Dockerfile").read_text()
    assert rest_of("FROM") == ["python:3.11-slim-bookworm"]
    assert rest_of("ARG") == [f"RAY_VERSION={locked_version('ray')}"]
    assert f"--tag REGISTRY/laclip-ray:ray-{locked_version('ray')} " in text
    from_lock, package = installs()
    assert "-r requirements/gpu.lock" in from_lock
    assert package.split()[-1] == "."


@pytest.mark.parametrize("option", ["--no-deps", "--compile-bytecode", "--no-cache", "--system"])
def test_every_install_resolves_nothing_and_compiles(option: str) -> None:
    assert all(option in command.split() for command in installs())


def test_uv_knows_every_option() -> None:
    uv = shutil.which("uv") or str(REPOSITORY / "build" / "uv" / "bin" / "uv")
    if not Path(uv).exists():
        pytest.skip("uv is not installed (make brings it to build/uv)")
    known = subprocess.run([uv, "pip", "install", "--help"], capture_output=True, text=True, check=True).stdout
    options = {option for command in installs() for option in re.findall(r"--[a-z-]+", command)}
    assert {option for option in options if not re.search(rf"{option}\b", known)} == set()


def test_the_lock_has_every_package_that_the_project_needs() -> None:
    import tomllib

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    versions = locked()
    for text in (*project["dependencies"], *project["optional-dependencies"]["gpu"]):
        requirement = Requirement(text)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        assert requirement.specifier.contains(versions[name], prereleases=True), text


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("command", rest_of("RUN"))
def test_bash_reads_the_commands(command: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_user_is_a_number_that_kubernetes_knows_is_not_root() -> None:
    (user,) = rest_of("USER")
    assert instructions()[-1] == ("USER", user)
    assert f"useradd --create-home --shell /bin/bash --uid {user} ray" in rest_of("RUN")[0]
    assert int(user) > 0


def test_ray_starts_with_the_settings_of_a_local_ray() -> None:
    (text,) = rest_of("ENV")
    variables = dict(pair.split("=") for pair in text.split())
    assert variables["HOME"] == "/home/ray"  # `ray up` reads it from the image
    assert int(variables["RAY_idle_worker_killing_time_threshold_ms"]) == cluster._IDLE_PROCESS_MS
    shared = variables.keys() & cluster._ENVIRONMENT.keys()
    assert shared
    assert {name: variables[name] for name in shared} == {name: cluster._ENVIRONMENT[name] for name in shared}


def test_the_image_has_no_weights_and_asks_no_hub() -> None:
    for rest in rest_of("RUN"):
        assert not re.search(r"hugging|\bhf\b|from_pretrained|snapshot|curl|wget https?:", rest)
    assert {source for source, _ in copies()} == {
        *("requirements/gpu.lock", "pyproject.toml", "README.md", "LICENSE"),
        *("laclip_ray", "jobs", "configs"),
    }
    for source, _ in copies():
        files = [path for path in (REPOSITORY / source).rglob("*") if path.is_file()]
        assert all(path.stat().st_size < 32 << 20 for path in files)


def test_the_build_context_has_what_is_copied_and_nothing_else() -> None:
    lines = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")} == {
        source for source, _ in copies()
    }
    assert any(fnmatch.fnmatch("laclip_ray/__pycache__", pattern) for pattern in patterns[1:])


def test_the_package_installs_from_the_copied_files(tmp_path: Path) -> None:
    context, wheels = tmp_path / "context", tmp_path / "wheels"
    for source, target in copies():
        origin, copied = REPOSITORY / source, context / target
        if origin.is_dir():
            shutil.copytree(origin, copied, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place = copied / source if target.endswith("/") else copied
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, place)
    wheels.mkdir()
    build = f"import setuptools.build_meta as backend; print(backend.build_wheel({str(wheels)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=context, capture_output=True, check=True)
    (wheel,) = wheels.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("laclip_ray/cli/app.py", "laclip_ray/py.typed", "laclip_ray/demo/captions.tsv"):
        assert needed in names
    assert any(name.startswith("laclip_ray/rewriting/prompting/prompt_sets/") for name in names)
    assert (context / "jobs" / "run.py").is_file()
    assert (context / "configs" / "cc12m.yaml").is_file()
