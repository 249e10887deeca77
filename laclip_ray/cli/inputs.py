"""Check that the inputs of a verb exist, before it imports the libraries that read them.

Covered: local paths without wildcards. The verb itself checks the others: globs, URLs, and what a path holds.
"""

import os
import re
from collections.abc import Collection

from laclip_ray.config import Experiment, local_paths
from laclip_ray.errors import UserError

_CHECKED = frozenset({"data.path", "model.name", "evaluate.labelled[].path"})
_PATTERN = re.compile(r"[*?\[{]|::|^pipe:")


def check_inputs(experiment: Experiment, sections: Collection[str]) -> None:
    """Refuse a missing input.

    Args:
        experiment: with absolute paths.
        sections: top-level keys that the verb reads.

    Raises:
        UserError: with the key and the path.
    """
    for each in local_paths(experiment):
        is_checked = each.key in _CHECKED and each.key.partition(".")[0] in sections
        if is_checked and not _PATTERN.search(each.path) and not os.path.lexists(each.path):
            raise UserError(f"{each.key.replace('[]', '')}: {each.path!r} does not exist; correct the path")
