"""Looking into what a model has learned, where scores say too little.

Which training images do samples resemble, how do their features and spectra differ, what do directions of the noise change?
"""

import copy
import json
from typing import Any, cast

import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import Dataset

from mmsagan.engine.config import complete_loader, config_errors
from mmsagan.engine.loops import build_evaluator
from mmsagan.errors import ConfigError
from mmsagan.evaluation import Evaluator, FeatureMetric, FrechetInceptionDistance, RealImages
from mmsagan.evaluation.moments import FeatureBank
from mmsagan.models import ConditionalGAN
from mmsagan.models.layers.blocks import ConditionalBatchNorm2d
from mmsagan.models.layers.spectral_norm import fold_spectral_norm


def training_config(cfg: Config) -> dict:
    """Returns the config of a training set without augmentation: with the evaluation's pipeline, or without random steps."""
    training, loader = complete_loader(cfg, 'train'), complete_loader(cfg, 'val')
    if 'type' not in training.get('dataset', {}) or 'pipeline' not in loader.get('dataset', {}):
        raise ConfigError('the config has no train_dataloader.dataset, or no val_dataloader.dataset.pipeline')
    own = ((cfg.get('val_dataloader') or {}).get('dataset') or {}).get('pipeline')
    steps = own or [step for step in loader['dataset']['pipeline'] if 'Random' not in str(step['type'])]
    return dict(training['dataset'], pipeline=steps)


def fid_extractor(cfg: Config) -> dict[str, Any]:
    """Returns the extractor of a config's FID, as an argument of a metric; empty if it has no FID, for the default one."""
    config = cfg.get('test_evaluator') or cfg.get('val_evaluator')
    with config_errors():
        metrics = build_evaluator(config).metrics if config else []
    sources = [metric.source for metric in metrics if type(metric) is FrechetInceptionDistance]
    return dict(extractor=json.loads(sources[0].config)) if sources else {}


class _Features(FeatureMetric):
    short_name = 'features'
    results = ('features',)
    needs_real = False

    def compute(self, fake: FeatureBank) -> dict[str, Tensor]:
        return dict(features=fake.features)


def extract_features(images: Tensor, batch_size: int = 64, **extractor: Any) -> Tensor:
    """Extracts features (N, D), float32, of images (N, 3, H, W) uint8, on their device.

    ``extractor`` are arguments of a :class:`~mmsagan.evaluation.FeatureMetric`.
    """
    evaluator = Evaluator([_Features(fake_nums=len(images), **extractor)])  # type: ignore[list-item]
    evaluator.prepare(images.device, batch_size, None, image_size=(images.shape[2], images.shape[3]))
    (features,) = evaluator.score(_as_source(images), batch_size, images.device).values()
    return features


class _NearestImages(FeatureMetric):
    short_name = 'nearest'
    results = ('distances', 'numbers')
    k = 5

    def compute(self, fake: FeatureBank) -> dict[str, Tensor]:
        mode = 'donot_use_mm_for_euclid_dist'  # exact for copies; of 64 rows to ImageNet's images, distances take 330 MB
        rows = (torch.cdist(part, self.real.features, compute_mode=mode) for part in fake.features.split(64))
        distances, places = map(torch.cat, zip(*(row.topk(self.k, largest=False) for row in rows)))
        return dict(distances=distances, numbers=self.real.index[places])


class NearestImages:
    """Finds the ``k`` images of a data set that are nearest to some images in the feature space of an extractor.

    ``extractor`` are arguments of a :class:`~mmsagan.evaluation.FeatureMetric`. The features of all images of the data set are
    extracted at the first call, and kept: 8 KiB per image with Inception.
    """

    def __init__(self, dataset: Dataset, k: int = 5, batch_size: int = 64, num_workers: int = 0, **extractor: Any):
        self.metric = _NearestImages(**extractor)
        self.metric.k = self.metric.min_real = k
        self.batch_size = batch_size
        self.images = RealImages(dataset, num_workers, seed=None)
        self.evaluator = Evaluator([self.metric])  # type: ignore[list-item]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Returns Euclidean distances (N, k) in ascending order, and numbers (N, k) of images in the data set.

        The images (N, 3, H, W), uint8 RGB, on the device, are of the size of those of the data set.
        """
        self.metric.fake_nums = len(images)
        self.evaluator.prepare(images.device, self.batch_size, self.images, image_size=(images.shape[2], images.shape[3]))
        distances, numbers = self.evaluator.score(_as_source(images), self.batch_size, images.device).values()
        return distances, numbers


class _Images(list):
    name = 'images'  # of the progress bar


def _as_source(images: Tensor) -> RealImages:
    return RealImages(_Images(dict(inputs=image, labels=0) for image in images.cpu()), seed=None)  # type: ignore[arg-type]


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


def power_spectrum(images: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the mean power spectrum of the brightness of images (N, 3, S, S) uint8.

    Brightness is the mean channel in [0, 1] minus its mean over the image; the power is ``|FFT|^2 / S^2``. Returns it (S, S),
    with frequency 0 at S // 2, and its means over rings whose radius rounds to 0, 1, ..., S // 2 cycles per image, float64.
    Source: Durall et al. 2020, who found too little or too much of high frequencies in samples.
    """
    size = images.shape[-1]
    if images.shape[-2] != size:
        raise ConfigError(f'power_spectrum: images must be square, got {tuple(images.shape)}')
    total = torch.zeros(size, size, dtype=torch.float64)
    for part in images.cpu().split(256):
        brightness = part.double().mean(1) / 255
        total += torch.fft.fft2(brightness - brightness.mean((1, 2), keepdim=True)).abs().square().sum(0)
    power = torch.fft.fftshift(total) / len(images) / size**2
    offset = torch.arange(size) - size // 2
    radius = (offset[:, None] ** 2 + offset**2).double().sqrt().round().long()
    sums = torch.zeros(int(radius.max()) + 1, dtype=torch.float64).index_add_(0, radius.flatten(), power.flatten())
    return power, (sums / radius.flatten().bincount())[: size // 2 + 1]
