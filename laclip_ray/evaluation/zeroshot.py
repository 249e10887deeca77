"""Zero-shot classification: images against class prompts, as in CLIP and CLIP_benchmark."""

from collections.abc import Iterator
from typing import Any

import torch

from laclip_ray.evaluation.embeddings import SpreadCheck, TextTokenizer, embed_images
from laclip_ray.evaluation.labelled import LabelledSet

METRICS = ("top1", "top5", "mean_per_class")
"""Names of the accuracies in `zero_shot_metrics`."""


@torch.no_grad()
def zero_shot_metrics(
    model: Any,
    tokenizer: Any,
    labelled: LabelledSet,
    batches: Iterator[tuple[torch.Tensor, list[int]]],
    device: torch.device,
) -> dict[str, Any]:
    """Measure how often the class whose prompts are most similar to the image is the right one.

    A class's embedding is the mean over the templates of the normalised text embeddings, normalised again.

    Args:
        model: an open_clip model in evaluation mode.
        tokenizer: its tokeniser.
        labelled: class names and templates.
        batches: pixels [B, 3, H, W] and B labels.
        device: the device of `model`.

    Returns:
        `top1` and `top5` (shares of images), `mean_per_class` (mean recall of the classes with images), `images`,
        `classes`, `captions_cut` (prompts cut at the model's context length). Without images there are no accuracies.

    Raises:
        NoResultError: the embeddings are not finite, or all the same.
    """
    reader = TextTokenizer(tokenizer)
    classifier = _classifier(model, reader, labelled, device)  # [D, C]
    of_images = SpreadCheck("images")
    classes = len(labelled.class_names)
    top1 = top5 = total = 0
    correct_of, count_of = torch.zeros(classes), torch.zeros(classes)
    for pixels, labels in batches:
        features = embed_images(model, pixels, device)
        of_images.add(features)
        ranked = (features @ classifier).topk(min(5, classes), dim=1).indices  # [B, 5]
        truth = torch.tensor(labels)
        hits = ranked == truth[:, None]
        top1 += int(hits[:, 0].sum())
        top5 += int(hits.any(dim=1).sum())
        total += len(labels)
        correct_of += torch.bincount(truth[hits[:, 0]], minlength=classes)
        count_of += torch.bincount(truth, minlength=classes)
    counts = {"images": total, "classes": classes, "captions_cut": reader.cut}
    if not total:
        return counts
    of_images.finish()
    seen = count_of > 0
    return {
        "top1": top1 / total,
        "top5": top5 / total,
        "mean_per_class": float((correct_of[seen] / count_of[seen]).mean()),
        **counts,
    }


def _classifier(model: Any, tokenizer: Any, labelled: LabelledSet, device: torch.device) -> torch.Tensor:
    """The classes' embeddings: float32 [D, C] on the CPU.

    Raises:
        NoResultError: they are not finite, or classes of different names have the same.
    """
    from open_clip import build_zero_shot_classifier

    templates = [lambda name, template=template: template.replace("{c}", name) for template in labelled.templates]
    classifier: torch.Tensor = build_zero_shot_classifier(
        model, tokenizer, labelled.class_names, templates, num_classes_per_batch=16, device=device
    )
    classifier = classifier.float().cpu()
    of_classes = SpreadCheck("class prompts")
    of_classes.add(classifier.T)
    if len(set(labelled.class_names)) > 1:
        of_classes.finish()
    return classifier
