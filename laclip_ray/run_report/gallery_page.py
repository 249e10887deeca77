"""The page of `laclip rewrites inspect --html`: the gallery of a report alone."""

from collections.abc import Collection

from laclip_ray.config import Experiment
from laclip_ray.reporting.gallery import Gallery
from laclip_ray.reporting.page import Page, Section, render_page
from laclip_ray.rewriting.storing.sets import SetSelection, readable_sets
from laclip_ray.run_report.reading_rewrites import read_samples_of
from laclip_ray.status.damage import Damage


def render_gallery_of(
    experiment: Experiment, reasons: Collection[str], names: Collection[str], captions: int, seed: int
) -> str:
    """The page, as a complete HTML document.

    Args:
        experiment: the configuration.
        reasons: show only draws refused for one of these reasons, or `accepted` ones. Empty: all.
        names: only these sets. Empty: all sets that training would read.
        captions: how many to show.
        seed: decides which.

    Raises:
        UserError: a set does not exist.
    """
    selection, damage = SetSelection.of(experiment), Damage()
    locations = [each.location for each in readable_sets(selection, names)]
    samples, notes = read_samples_of(
        locations, selection.gate, experiment.model_dump(mode="json"), reasons, captions, seed, damage
    )
    gallery = Gallery.of(samples)
    title = f"Rewrites of {experiment.name}"
    section = Section("pictures", "Captions and rewrites", gallery=gallery, notes=notes)
    return render_page(Page(title, warnings=damage.found, sections=[section]))
