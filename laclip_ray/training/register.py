"""Ray Train's register of checkpoints: which are complete, and which one a run resumes from.

    ray/checkpoint_manager_snapshot.json   the register; Ray adds a checkpoint when its upload is complete
    ray/checkpoint-STEP-TIME/              a checkpoint

Ray Train takes the register as it is. It retries in vain if the register is cut or names a missing checkpoint, and
starts from the beginning without a register. So a run checks it first.

Guarantees: a run never starts from the beginning beside a whole checkpoint. It resumes from the newest whole one, and
says which ones it left out. Each checkpoint holds its own position, so every whole one is right to resume from.

Not covered: damage inside a file of the right length. The workers report a checkpoint that they cannot load
(`drop_unloadable`).
"""

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from laclip_ray import storage
from laclip_ray.errors import UserError
from laclip_ray.models.files import CONFIG_FILE, MODEL_FILE, STATE_FILE
from laclip_ray.training.paths import RunPaths

logger = logging.getLogger(__name__)

OPTIMISER_FILE = "optimiser.pt"

REGISTER_FILE = "checkpoint_manager_snapshot.json"

_CHECKPOINT_NAME = re.compile(r"checkpoint-\d{8,}-(\d+)")
_ZIP_TAIL_BYTES = 22 + 65_535
"""A zip's last record and its longest comment."""
_MAX_HEADER_BYTES = 1 << 28


class _Entry(NamedTuple):
    """A registered checkpoint."""

    result: dict[str, Any]
    """As the register has it: `checkpoint_dir_name` and `metrics`."""
    number: int
    """Orders checkpoints by their age."""

    @property
    def name(self) -> str:
        return str(self.result["checkpoint_dir_name"])


class _Register(NamedTuple):
    """The parts of a register that this module reads, and the rest."""

    entries: list[_Entry]
    latest: str | None
    content: dict[str, Any]


def checkpoint_name(step: int, time_ns: int) -> str:
    """The directory of a checkpoint: unique to step and start, so files of different attempts never share one."""
    return f"checkpoint-{step:08d}-{time_ns}"


def newest_registered(paths: RunPaths) -> str | None:
    """The name of the newest registered checkpoint. None: no checkpoint.

    Raises:
        UserError: the register is damaged.
    """
    url = _register_url(paths)
    if not storage.exists(url):
        return None
    remedy = "`laclip train` with the run's config makes it again from its checkpoints."
    return storage.read_state(url, "Ray Train's register of checkpoints", remedy, _parse).latest


def _register_url(paths: RunPaths) -> str:
    return storage.join(paths.ray_run, REGISTER_FILE)


def _parse(content: Any) -> _Register:
    # Some releases of Ray store a JSON text within JSON, others plain JSON.
    content = json.loads(content) if isinstance(content, str) else content
    results, numbers = content["checkpoint_results"], content["checkpoint_report_indices"]
    entries = [_Entry(result, int(number)) for result, number in zip(results, numbers, strict=True)]
    latest = content["latest_checkpoint_result"]
    return _Register(entries, latest["checkpoint_dir_name"] if latest else None, content)


def repair_register(paths: RunPaths) -> None:
    """Make the register name only existing checkpoints, and a whole one as the newest. Ray must not run.

    Raises:
        UserError: the register names checkpoints, but no whole one.
    """
    register, problem = _read(paths)
    if register is None:
        _rebuild(paths, problem)
        return
    if register.latest is None:
        return
    by_age = sorted(register.entries, key=lambda entry: entry.number)
    # Ray stops if an older one does not exist.
    kept = [entry for entry in by_age if storage.exists(storage.join(paths.ray_run, entry.name))]
    defects = {entry.name: "it does not exist" for entry in by_age if entry not in kept}
    while kept and (defect := find_defect(storage.join(paths.ray_run, kept[-1].name))):
        defects[kept.pop().name] = defect
    if defects or not kept or kept[-1].name != register.latest:
        _write_without(paths, register, kept, defects)


def drop_unloadable(paths: RunPaths) -> bool:
    """Remove the checkpoint that the workers could not load from the register.

    Returns:
        False if they have reported no checkpoint.

    Raises:
        UserError: no other checkpoint is left.
    """
    if not storage.exists(paths.unloadable):
        return False
    name, reason = storage.read_state(
        paths.unloadable,
        "the report of the workers",
        "Remove it.",
        lambda note: (str(note["name"]), str(note["reason"])),
    )
    storage.remove(paths.unloadable)
    register, _ = _read(paths)
    if register is None or name != register.latest:
        return False
    kept = [entry for entry in sorted(register.entries, key=lambda entry: entry.number) if entry.name != name]
    _write_without(paths, register, kept, {name: reason})
    return True


def _read(paths: RunPaths) -> tuple[_Register | None, str]:
    """The register, or None and its defect."""
    url = _register_url(paths)
    if not storage.exists(url):
        return None, "is missing"
    try:
        return storage.read_state(url, "the register", "", _parse), ""
    except UserError:
        return None, "is damaged"


def _write_without(paths: RunPaths, register: _Register, kept: Sequence[_Entry], defects: Mapping[str, str]) -> None:
    """Write the register with only the kept checkpoints, oldest first; the last one is the newest."""
    reasons = "; ".join(f"{name}: {defect}" for name, defect in defects.items())
    if not kept:
        raise UserError(
            f"train.output: no checkpoint of {paths.ray_run} can be loaded ({reasons}). Restore one from a copy, or "
            "choose another train.output to train from the beginning"
        )
    logger.warning("%s: checkpoints that cannot be loaded: %s; resuming from %s", paths.ray_run, reasons, kept[-1].name)
    names = {entry.name for entry in kept}
    in_order = [entry for entry in register.entries if entry.name in names]  # by loss if the run keeps the best ones
    _write(
        paths,
        {
            **register.content,
            "checkpoint_results": [entry.result for entry in in_order],
            "checkpoint_report_indices": [entry.number for entry in in_order],
            "latest_checkpoint_result": kept[-1].result,
            "pending_training_results": [],
            "pending_validation_specs": [],
        },
    )


def _rebuild(paths: RunPaths, problem: str) -> None:
    """Make a register of all whole checkpoints, if there are any."""
    names = [name for name in storage.list_directories(paths.ray_run) if _CHECKPOINT_NAME.fullmatch(name)]
    names.sort(key=lambda name: int(name.rpartition("-")[2]))
    results = []
    for name in names:
        url = storage.join(paths.ray_run, name)
        if find_defect(url) is None:
            state = storage.read_json(storage.join(url, STATE_FILE))
            # The loss is not known. Ray compares it with numbers.
            metrics = {"step": state["step"], "samples": state["samples"], "loss": sys.float_info.max}
            results.append({"version": 0, "checkpoint_dir_name": name, "metrics": metrics})
    if not results:
        if problem == "is damaged":
            raise UserError(
                f"{_register_url(paths)}: Ray Train's register of checkpoints is damaged, and no whole checkpoint lies "
                "beside it. Restore them from a copy, or choose another train.output to train from the beginning"
            )
        if names:  # of uploads that a killed run did not finish
            logger.warning("%s: none of its checkpoints is whole; training starts from the beginning", paths.ray_run)
        return
    logger.warning(
        "%s: Ray Train's register of checkpoints %s; made it again from the %d whole checkpoints there, and resuming "
        "from %s", paths.ray_run, problem, len(results), results[-1]["checkpoint_dir_name"],
    )  # fmt: skip
    import ray

    _write(
        paths,
        {
            "ray_version": ray.__version__,
            "checkpoint_results": results,
            "checkpoint_report_indices": list(range(len(results))),
            "latest_checkpoint_result": results[-1],
            "pending_training_results": [],
            "pending_validation_specs": [],
            "current_report_index": len(results),
            "validated_checkpoint_dir_names": [],
            "timed_out_validation_checkpoint_dir_names": [],
            "failed_validation_checkpoint_dir_names": [],
        },
    )


def _write(paths: RunPaths, content: Mapping[str, Any]) -> None:
    storage.write_json(_register_url(paths), content)


def find_defect(checkpoint: str) -> str | None:
    """Why a stored checkpoint cannot be loaded, as far as lengths and formats show it. None: it seems whole."""
    checks: dict[str, Callable[[str], None]] = {
        STATE_FILE: lambda url: storage.read_json(url)["position"],
        CONFIG_FILE: lambda url: storage.read_json(url)["model_cfg"],
        MODEL_FILE: _check_safetensors,
        OPTIMISER_FILE: _check_zip,
    }
    for name, check in checks.items():
        try:
            check(storage.join(checkpoint, name))
        except FileNotFoundError:
            return f"{name} is missing"
        except (ValueError, LookupError, TypeError):
            return f"{name} is damaged"
    return None


def _check_safetensors(url: str) -> None:
    """Raise ValueError unless the file is as long as its header says."""
    fs, path = storage.filesystem(url)
    size = fs.info(path)["size"]
    header_size = int.from_bytes(fs.cat_file(path, start=0, end=8), "little")
    if not 0 < header_size <= min(size - 8, _MAX_HEADER_BYTES):
        raise ValueError("no header")
    header = json.loads(fs.cat_file(path, start=8, end=8 + header_size))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    if size != 8 + header_size + max(ends):
        raise ValueError("cut")


def _check_zip(url: str) -> None:
    """Raise ValueError unless the file, which `torch.save` wrote, ends as a zip does."""
    fs, path = storage.filesystem(url)
    size = fs.info(path)["size"]
    tail = fs.cat_file(path, start=max(0, size - _ZIP_TAIL_BYTES), end=size)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + 22 + int.from_bytes(tail[found + 20 : found + 22], "little") != len(tail):
        raise ValueError("cut")
