"""Versions of Python and packages against the lock, here and on the nodes of a cluster. Pure functions."""

from collections.abc import Mapping, Sequence

from laclip_ray.doctor.locks import Lock, satisfies
from laclip_ray.doctor.machines import Machine
from laclip_ray.doctor.results import Finding, failed, passed
from laclip_ray.tally import first_names

_INSTALL = "Install the lock: uv pip install --no-deps -r requirements/gpu.lock (cpu.lock without an NVIDIA GPU)"
_SAME = "Use the same environment on all nodes, such as one image for all (cluster/Dockerfile)"


def check_python(machine: Machine, lock: Lock) -> Finding:
    """Whether this Python is supported."""
    if satisfies(machine.python, lock.python):
        return passed(f"{machine.python} (supported: {lock.python or 'not stated'})")
    return failed(
        f"{machine.python} is not supported (supported: {lock.python})",
        "Make an environment with a supported Python: uv venv --python 3.11 .venv",
    )


def check_packages(machine: Machine, lock: Lock) -> Finding:
    """Whether the installed packages have the versions of the lock. Further packages do not matter."""
    differing = [
        f"{name} {machine.packages[name]} instead of {version}"
        for name, version in sorted(lock.versions.items())
        if machine.packages.get(name, version) != version
    ]
    missing = sorted(lock.required - machine.packages.keys())
    kinds = (("other versions", differing), ("missing", missing))
    if problems := [f"{kind}: {first_names(names)}" for kind, names in kinds if names]:
        return failed(f"{'; '.join(problems)} (compared with {lock.origin})", _INSTALL)
    compared = sum(name in machine.packages for name in lock.versions)
    return passed(f"{compared} packages have the versions of {lock.origin}")


def check_nodes(here: Machine, nodes: Mapping[str, Machine], names: Sequence[str]) -> Finding:
    """Whether every node has the versions of this process.

    Args:
        here: the machine of this process.
        nodes: the other machines, by the name of their node.
        names: packages to compare.
    """
    differing = {node: _compare(here, each, names) for node, each in nodes.items()}
    if problems := [f"{node}: {first_names(found)}" for node, found in differing.items() if found]:
        return failed(first_names(problems, separator="; "), _SAME)
    return passed(f"{len(nodes)} nodes have Python {here.python} and the same packages as this process")


def _compare(here: Machine, node: Machine, names: Sequence[str]) -> list[str]:
    """The packages that differ on a node."""
    pairs = [("Python", node.python, here.python)]
    pairs += [
        (name, node.packages.get(name, "missing"), here.packages[name]) for name in names if name in here.packages
    ]
    return [f"{name} {there} (here {own})" for name, there, own in pairs if there != own]
