"""The end of a verb takes no time of its own: no library is imported for it, and none is searched for garbage."""

import subprocess
import sys

import pytest

_COMMAND = """
import atexit, sys
from laclip_ray.cli.process import run_process

class Part:
    def __del__(self):
        print("freed", flush=True)

part = Part()
part.itself = part
run_process(["--version"])
atexit.register(print, "handler", flush=True)
"""


def printed(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_printing_a_result_imports_no_large_library() -> None:
    program = "import sys, laclip_ray.cli.conclusions, laclip_ray.console; print(*sys.modules)"
    assert {"torch", "ray", "vllm", "matplotlib", "optuna"} & {*printed(program).split()} == set()


def test_a_process_ends_after_its_exit_handlers_without_freeing_objects_one_by_one() -> None:
    version, handler = printed(_COMMAND).splitlines()
    assert (version[0], handler) == ("0", "handler")
    assert "freed" in printed(_COMMAND.replace("from laclip_ray.cli.process import run_process", "run_process = print"))


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["no-such-verb"], 2)])
def test_the_process_has_the_exit_code_of_the_command(words: list[str], code: int) -> None:
    assert subprocess.run([sys.executable, "-m", "laclip_ray", *words], capture_output=True).returncode == code


def test_a_reader_that_is_gone_is_no_trouble() -> None:
    command = f"{sys.executable} -m laclip_ray --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)  # noqa: S602
    assert (done.returncode, done.stderr) == (0, "")
