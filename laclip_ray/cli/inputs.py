"""Check that the inputs of a verb exist, before it imports the libraries that read them.

Covered: local paths without wildcards. The verb itself checks the others: globs, URLs, and what a path holds.
"""

import os
import re
from collections.abc import Collection

from laclip_ray.config import Experiment, local_paths
from laclip_ray.errors import UserError

_CHECKED = frozenset({"data.path", "model.name"})
_PATTERN = re.compile(r"[*?\[{]|::|^pipe:")


def check_inputs(experiment: Experiment, sections: Collection[str]) -> None:
    """Refuse a missing input.

    Args:
        experiment: with absolute paths.
        sections: top-level keys that the verb reads.

    Raises:
        UserError: with the key and the path.
    """
    local = list(local_paths(experiment))
    paths = [(each.key, each.path) for each in local if each.key in _CHECKED]
    of_sets = {each.path for each in local if each.key == "evaluate.labelled[].path"}
    sets = experiment.evaluate.labelled
    paths += [(f"evaluate.labelled[{each.name}].path", each.path) for each in sets if each.path in of_sets]
    for key, path in paths:
        is_read = key.partition(".")[0] in sections
        if is_read and not _PATTERN.search(path) and not os.path.lexists(path):
            raise UserError(f"{key}: {path!r} does not exist; correct the path")
