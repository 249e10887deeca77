"""Readable names of metrics.

A metric's full name is `task/dataset/metric`, as sweeps and tables of results have it.
"""

import re

_METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "map": "mean average precision",
    "map11": "mean average precision, 11 points",
    "preferred": "caption preferred to wrong ones",
    "preferred_to_all": "caption preferred to all wrong ones",
    "preferred_to_all_by_guessing": "the same, by guessing",
    "other_words": "preferred where words differ",
    "other_order": "preferred where the order differs",
    "template_mean": "top-1, mean over templates",
    "worst_template_top1": "top-1 with the worst template",
    "ensemble_top1": "top-1 with all templates together",
    "template_spread": "best minus worst template",
    "spread_by_chance": "the same, by chance",
    "flip_rate": "predictions that change with the template",
    "always_right": "right with every template",
    "always_same_wrong": "wrong alike with every template",
}


def metric_name(metric: str) -> str:
    """The readable name of a metric.

    >>> metric_name("image_to_text_r1"), metric_name("text_to_image_r5_drop"), metric_name("top1")
    ('image to text R@1', 'text to image R@5, drop', 'top-1')
    """
    if metric in _METRICS:
        return _METRICS[metric]
    text = re.sub(r"\br(\d+)\b", r"R@\1", metric.replace("_", " "))
    return re.sub(r"(R@\d+) (\w+)$", r"\1, \2", text)


def order_of(key: str) -> tuple[str | int, ...]:
    """A key that sorts metrics as a reader counts.

    >>> sorted(["recall_r10", "recall_r1", "recall_r5"], key=order_of)
    ['recall_r1', 'recall_r5', 'recall_r10']
    """
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", key))


def full_name(key: str) -> str:
    """The readable name of `task/dataset/metric`.

    >>> full_name("zero-shot/world/top1")
    'zero-shot top-1, world'
    """
    task, _, rest = key.partition("/")
    dataset, _, metric = rest.rpartition("/")
    if not dataset:
        return metric_name(key)
    shown = task if task == "zero-shot" else task.replace("-", " ")
    name = metric_name(metric)
    return f"{shown}{':' if ' ' in name else ''} {name}, {dataset}"
