"""Labels of nodes: which nodes a `label_selector` admits, and whether nodes with a label can join on demand."""

from collections.abc import Mapping


def admits_labels(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a node with these labels meets every condition of a `label_selector`."""
    return all(_selects(condition, labels.get(key)) for key, condition in selector.items())


def needed_labels(selector: Mapping[str, str]) -> dict[str, str]:
    """The conditions of a `label_selector` that a node without labels does not meet."""
    return {key: condition for key, condition in selector.items() if not _selects(condition, None)}


def _selects(condition: str, value: str | None) -> bool:
    """Whether a node's label meets Ray's condition: `a`, `!a`, `in(a, b)` or `!in(a, b)`."""
    wanted = condition.removeprefix("!")
    accepted = wanted[len("in(") : -1].split(",") if wanted.startswith("in(") else [wanted]
    return (value in [option.strip() for option in accepted]) != condition.startswith("!")


def autoscaler_knows_labels() -> bool:
    """Whether the cluster that this process is connected to runs Ray's autoscaler v2.

    The first version asks for nodes by their resources alone. The head writes the version into its key-value store when
    it starts.
    """
    from ray.autoscaler.v2.utils import is_autoscaler_v2

    return bool(is_autoscaler_v2(fetch_from_server=True))
