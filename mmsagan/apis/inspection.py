"""Looking into what a model has learned, where scores say too little.

Which training images do samples resemble, and what do directions of the noise change?
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmsagan.errors import ConfigError
from mmsagan.evaluation import Evaluator, FeatureMetric, RealImages
from mmsagan.evaluation.moments import FeatureBank
from mmsagan.models import ConditionalGAN
from mmsagan.models.layers.blocks import ConditionalBatchNorm2d
from mmsagan.models.layers.spectral_norm import fold_spectral_norm


class _NearestImages(FeatureMetric):
    short_name = 'nearest'
    results = ('distances', 'numbers')
    k = 5

    def compute(self, fake: FeatureBank) -> dict[str, Tensor]:
        mode = 'donot_use_mm_for_euclid_dist'  # exact for copies; of 64 rows to ImageNet's images, distances take 330 MB
        rows = (torch.cdist(part, self.real.features, compute_mode=mode) for part in fake.features.split(64))
        distances, places = map(torch.cat, zip(*(row.topk(self.k, largest=False) for row in rows)))
        return dict(distances=distances, numbers=self.real.index[places])


def nearest_images(
    images: Tensor, dataset: Dataset, k: int = 5, batch_size: int = 64, num_workers: int = 0, **extractor: Any
) -> tuple[Tensor, Tensor]:
    """Finds the ``k`` images of a data set that are nearest to each of some images in the feature space of an extractor.

    The images (N, 3, H, W), uint8 RGB, are of the size of those of the data set; features are extracted on their device.
    ``extractor`` are arguments of a :class:`~mmsagan.evaluation.FeatureMetric`. Returns Euclidean distances (N, k) in ascending
    order, and numbers (N, k) of the images in the data set. Keeps all features: 8 KiB per image with Inception.
    """
    metric, others = _NearestImages(fake_nums=len(images), **extractor), RealImages(dataset, num_workers, seed=None)
    metric.k = metric.min_real = k
    evaluator = Evaluator([metric])  # type: ignore[list-item]
    evaluator.prepare(images.device, batch_size, others, image_size=(images.shape[2], images.shape[3]))
    queries = RealImages([dict(inputs=image, labels=0) for image in images.cpu()], seed=None)  # type: ignore[arg-type]
    distances, numbers = evaluator.score(queries, batch_size, images.device).values()
    return distances, numbers


def noise_directions(model: ConditionalGAN, layers: str = 'first', sample_model: str | None = None) -> tuple[Tensor, Tensor]:
    """Finds the directions of the noise that change a generator's layers most.

    They are the right singular vectors of the layers' weight: unit vectors (K, noise_size), returned with the singular values
    (K,) in descending order. Source: Shen and Zhou 2021 (SeFa).

    Args:
        layers: ``'first'``, the linear layer before the first block; or ``'norms'``, the linear layers of conditional norms,
            which a model with ``noise_in_norms`` has.
        sample_model: As for :func:`~mmsagan.apis.sampling.sample`.
    """
    generator = fold_spectral_norm(copy.deepcopy(model.get_generator(sample_model)))
    norms = [module for module in generator.modules() if isinstance(module, ConditionalBatchNorm2d)]
    noisy = [layer for norm in norms for layer in norm.children() if isinstance(layer, torch.nn.Linear)]
    if layers == 'norms' and not noisy:
        raise ConfigError("the generator's norms do not depend on the noise; layers='norms' needs noise_in_norms=True")
    chosen = noisy if layers == 'norms' else [cast(torch.nn.Linear, generator.noise2feat)]
    weights = [layer.weight for layer in chosen]
    _, values, directions = torch.linalg.svd(torch.cat(weights).detach().double().cpu(), full_matrices=False)
    signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()  # which the decomposition leaves open
    return (directions * signs).float(), values.float()
