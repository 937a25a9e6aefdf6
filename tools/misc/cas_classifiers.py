"""The classifiers of classification_score.py, and what they are trained and tested on."""

import importlib

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor, nn
from train_small_extractor import train

from mmsagan.errors import ConfigError
from mmsagan.evaluation import DigitsExtractor, GeneratedImages, RealImages, open_images


class Pixels(nn.Module):
    """Maps images (N, 3, H, W), uint8, to [-1, 1], resized to ``size`` if it is given."""

    def __init__(self, size: int | None = None):
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        scaled = images.float() / 127.5 - 1
        if self.size in (None, images.shape[-1]):
            return scaled
        return F.interpolate(scaled, (self.size, self.size), mode='bilinear', antialias=True)


def make_classifier(name: str, num_classes: int) -> nn.Module:
    """Builds a classifier of images (N, 3, H, W), uint8: ``small``, ``timm:NAME`` or ``torchvision:NAME``."""
    if name == 'small':
        trunk = DigitsExtractor(trained=False).trunk
        trunk[0] = nn.Conv2d(3, trunk[0].out_channels, 3, padding=1)
        return nn.Sequential(Pixels(32), trunk, nn.Dropout(0.3), nn.Linear(64, num_classes))
    library, _, model = name.partition(':')
    try:
        module, function = dict(timm=('timm', 'create_model'), torchvision=('torchvision.models', 'get_model'))[library]
        return nn.Sequential(Pixels(), getattr(importlib.import_module(module), function)(model, num_classes=num_classes))
    except (KeyError, ImportError, RuntimeError, ValueError) as error:
        known = 'small, or timm:NAME or torchvision:NAME of a library that is installed'
        raise ConfigError(f'--classifier {name}: expected {known}: {error}') from error


def load(images: GeneratedImages | RealImages, num_images: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The first images (N, 3, H, W), uint8, and their labels (N,), on the CPU."""
    batches = [(batch.images.cpu(), batch.label.cpu()) for batch in images.batches(num_images, 250, device)]
    pixels, labels = map(torch.cat, zip(*batches))
    return pixels, labels


def accuracies(
    network: nn.Module, training: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], num_classes: int, epochs: int
) -> Tensor:
    """Trains a classifier and returns its accuracies on the test images: of all, then of each class, (1 + num_classes,)."""
    train(network, *training, epochs)
    with torch.no_grad():
        device = next(network.parameters()).device
        right = torch.cat([network(images.to(device)).argmax(1).cpu() for images in test[0].split(250)]) == test[1]
    return torch.stack([right.float().mean(), *(right[test[1] == label].float().mean() for label in range(num_classes))])


def test_images(source: str | None, cfg: Config, real: RealImages) -> RealImages:
    """Those of a source, or else those that the config holds out, or CIFAR-10's."""
    evaluator = cfg.get('test_evaluator')
    held_out = evaluator.get('held_out') if isinstance(evaluator, dict) else None
    if source is not None:
        return RealImages(open_images(source))
    if held_out is None and real.config.get('type') == 'CIFAR10':
        held_out = dict(real.config, test_mode=True)
    if held_out is None:
        raise ConfigError('the config holds out no real images (test_evaluator.held_out): give a folder of classes as --test')
    return RealImages(held_out)
