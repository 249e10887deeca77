"""Zero-shot classification: images against class prompts, as in CLIP and CLIP_benchmark."""

from collections.abc import Iterator
from typing import Any

import torch

from laclip_ray.evaluation.datasets import LabelledSet

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
        `classes`.
    """
    from open_clip import build_zero_shot_classifier

    templates = [lambda name, template=template: template.replace("{c}", name) for template in labelled.templates]
    classifier = build_zero_shot_classifier(
        model, tokenizer, labelled.class_names, templates, num_classes_per_batch=16, device=device
    )  # [D, C]
    classes = len(labelled.class_names)
    top1 = top5 = total = 0
    correct_of, count_of = torch.zeros(classes), torch.zeros(classes)
    for pixels, labels in batches:
        features = model.encode_image(pixels.to(device), normalize=True)
        ranked = (features @ classifier).topk(min(5, classes), dim=1).indices.cpu()  # [B, 5]
        truth = torch.tensor(labels)
        hits = ranked == truth[:, None]
        top1 += int(hits[:, 0].sum())
        top5 += int(hits.any(dim=1).sum())
        total += len(labels)
        correct_of += torch.bincount(truth[hits[:, 0]], minlength=classes)
        count_of += torch.bincount(truth, minlength=classes)
    seen = count_of > 0
    return {
        "top1": top1 / max(1, total),
        "top5": top5 / max(1, total),
        "mean_per_class": float((correct_of[seen] / count_of[seen]).mean()) if total else 0.0,
        "images": total,
        "classes": classes,
    }
