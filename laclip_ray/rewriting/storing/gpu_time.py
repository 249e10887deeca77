"""The GPU time that all draws of an output took, for the budget: of every prompt set, judged by any gate or by none.

The registers of the gates know most of it. The files of draws that no register knows are opened.
"""

from collections.abc import Mapping
from dataclasses import replace

from laclip_ray import storage
from laclip_ray.rewriting.storing import register
from laclip_ray.rewriting.storing.committed import Listed, StoredFile
from laclip_ray.rewriting.storing.recipe_file import RECIPE_FILE
from laclip_ray.rewriting.storing.store import RewriteSet


def spent_gpu_s(output: str, sets: Mapping[str, RewriteSet], listed: Mapping[str, Listed]) -> float:
    """GPU-seconds of all draws in an output directory.

    Args:
        output: the directory.
        sets: some of its sets, by the names of their directories.
        listed: their files.
    """
    spent = 0.0
    for name in storage.list_directories(output):
        rewrite_set = sets.get(name) or RewriteSet(storage.join(output, name), gate="")
        if storage.exists(storage.join(rewrite_set.location, RECIPE_FILE)):
            spent += _spent_by(rewrite_set, listed.get(name))
    return spent


def _spent_by(rewrite_set: RewriteSet, listed: Listed | None) -> float:
    drawn = rewrite_set.drawn_revisions() if listed is None else listed.drawn
    known: dict[StoredFile, float] = {}
    for gate in storage.list_directories(storage.join(rewrite_set.location, "verdicts")):
        of_gate = replace(rewrite_set, gate=gate)
        if listed is not None and gate == rewrite_set.gate:
            identities = listed.identities
        else:
            identities = of_gate.verdict_identities()
        known |= register.registered_gpu_s(of_gate.register_url, identities)
    others = {shard: revision for shard, revision in drawn.items() if (shard, revision) not in known}
    spent = sum(known[file] for file in drawn.items() if file in known)
    return spent + sum(origin.gpu_s for origin in rewrite_set.origins(others).values())
