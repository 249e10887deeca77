"""Features of images drawn from a mixture: a normal distribution around the centre of each class."""

import numpy as np

from laclip_ray.evaluation.protocols.features import Features
from laclip_ray.randomness import generator


def mixture(
    split: str,
    classes: int = 5,
    images: int = 20,
    width: int = 8,
    noise: float = 1.0,
    seed: int = 0,
    nuisances: int = 0,
) -> Features:
    """The features of a split, class by class. The splits of one seed share the centres.

    Args:
        split: names the split, and the ids.
        classes: number of classes.
        images: of each class.
        width: of the features.
        noise: standard deviation around a centre; that of the centres is 1.
        seed: of all draws.
        nuisances: number of random directions in which all images have ten times the noise, whatever their class. With
            none the nearest centre is the best classifier, and so is a probe of a small C.
    """
    labels = np.repeat(np.arange(classes), images)
    centres = generator(seed, "centres").normal(size=(classes, width))
    random = generator(seed, split)
    values = centres[labels] + noise * random.normal(size=(len(labels), width))
    directions = generator(seed, "nuisances").normal(size=(nuisances, width)) / np.sqrt(width)
    values += 10 * noise * random.normal(size=(len(labels), nuisances)) @ directions
    return Features([f"{split} {n}" for n in range(len(labels))], values.astype(np.float32), labels)


def skewed(split: str, classes: int = 5, images: int = 8, width: int = 100, seed: int = 0) -> Features:
    """Features of few images whose directions differ in variance by up to `width`^3, as those of real models do.

    With fewer images than features, the classes of a split can always be told apart by a plane.
    """
    plain = mixture(split, classes, images, width, 2.0, seed)
    turned, _ = np.linalg.qr(generator(seed, "turned").normal(size=(width, width)))
    deviations = np.arange(1, width + 1) ** -1.5
    return Features(plain.ids, ((plain.values * deviations) @ turned).astype(np.float32), plain.labels)


def shuffled(features: Features, seed: int = 0) -> Features:
    """The same images in another order."""
    return features.take(generator(seed, "shuffled").permutation(len(features)))


def labelled_as(features: Features, labels: np.ndarray) -> Features:
    """The same images with other labels."""
    return Features(features.ids, features.values, labels)


def several_labels(features: Features, classes: int, seed: int = 0) -> Features:
    """The same images, each with any of `classes` labels by the side of a random plane that it lies on."""
    planes = generator(seed, "planes").normal(size=(features.values.shape[1], classes))
    return labelled_as(features, features.values @ planes > 0)
