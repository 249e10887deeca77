"""Settings that are allowed and hardly meant: a sentence for each, before work starts. Pure.

The defaults are the paper's, for 12 million samples. On a few thousand they train for a handful of steps, without an
error.
"""

from collections.abc import Iterator

from laclip_ray.config import EvaluateConfig, TrainConfig

_STEPS_AN_EPOCH, _LEAST_STEPS, _LEAST_BATCH = 64, 4, 32
"""Of the advised batch: many steps an epoch, or on small data few steps of a batch that has some negatives."""


def doubts(samples_per_epoch: int, train: TrainConfig, evaluate: EvaluateConfig) -> Iterator[str]:
    """Doubts about a run, each as one sentence with the setting and the remedy.

    Args:
        samples_per_epoch: about; without the held-out ones.
        train: the configuration of training.
        evaluate: the configuration of evaluation.
    """
    batch = train.batch_size
    advised = max(1, min(_LEAST_BATCH, samples_per_epoch // _LEAST_STEPS), samples_per_epoch // _STEPS_AN_EPOCH)
    if batch > samples_per_epoch:
        yield (
            f"train.batch_size: a batch of {batch:,} is larger than the data ({samples_per_epoch:,} samples an epoch), "
            f"so it holds a picture several times, each as a wrong answer to the other; set it to about {advised:,}"
        )
    elif samples_per_epoch < 2 * batch:
        yield (
            f"train.batch_size: an epoch of {samples_per_epoch:,} samples is one step of {batch:,}; set it to about "
            f"{advised:,}"
        )
    if train.epochs <= train.warmup_epochs:
        yield (
            f"train.warmup_epochs: the warm-up of {train.warmup_epochs:g} epochs is not shorter than the run "
            f"(train.epochs: {train.epochs}), so the peak learning rate is not reached before its end; shorten it"
        )
    if not (evaluate.labelled or evaluate.retrieval or evaluate.sugar_crepe):
        yield (
            "evaluate: no set is configured, so nothing will tell how good the model is; add one, or hold some of the "
            "data out (data.held_out: 0.02, evaluate.retrieval: [{name: held-out, held_out: true}])"
        )
