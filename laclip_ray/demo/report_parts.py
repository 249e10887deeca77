"""Parts of a demo's report: captions with their rewrites, and the counts of rewriting."""

from itertools import islice

from laclip_ray.config import Experiment
from laclip_ray.data.shards import list_shards, read_samples
from laclip_ray.reporting.gallery import Rewrite, RewrittenSample
from laclip_ray.reporting.report import RewritingSummary
from laclip_ray.rewriting.running.result import RewritingResult
from laclip_ray.rewriting.storing.sets import SetSelection, configured_sets


def rewritten_samples(experiment: Experiment, count: int, with_images: bool) -> list[RewrittenSample]:
    """The first samples of the data, each with its rewrites by each prompt set, accepted and refused.

    Args:
        experiment: the configuration. Its rewriting is complete.
        count: number of samples, at most.
        with_images: whether the data has pictures. Samples whose picture is missing are left out.
    """
    sets = configured_sets(SetSelection.of(experiment)).sets
    samples: list[RewrittenSample] = []
    for shard in list_shards(experiment.data):
        if len(samples) == count:
            break
        rewrites: dict[str, list[Rewrite]] = {}  # by sample
        for rewrite_set in sets:
            revision = rewrite_set.committed_revision(shard.name)
            assert revision is not None, "the demo's rewriting is complete"
            for draw in rewrite_set.read(shard.name, revision).to_pylist():
                rewrites.setdefault(draw["id"], []).append(
                    Rewrite(rewrite_set.name, draw["text"] or "", draw["reason"])
                )
        found = (
            RewrittenSample(sample.id, sample.image, sample.caption, tuple(rewrites.get(sample.id, ())))
            for sample in read_samples(shard, experiment.data, with_images=with_images)
            if sample.image is not None or not with_images
        )
        samples.extend(islice(found, count - len(samples)))
    return samples


def rewriting_summaries(result: RewritingResult) -> list[RewritingSummary]:
    """The counts of a rewriting run by prompt set."""
    return [
        RewritingSummary(
            prompt_set=name,
            captions=counts.captions,
            accepted=counts.accepted,
            captions_without_rewrite=counts.captions_without_rewrite,
            rejected=counts.rejected,
            problems=counts.problems,
        )
        for name, counts in result.statistics.items()
    ]
