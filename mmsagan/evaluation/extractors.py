"""From images to features and class probabilities: Tero Karras' Inception, pytorch-fid's, and a small one for digits.

An extractor of your own is registered, and named in a metric's config::

    from mmsagan.evaluation import FeatureExtractor
    from mmsagan.registry import EXTRACTORS

    @EXTRACTORS.register_module()
    class MyExtractor(FeatureExtractor):
        name, suffix = 'my network', '-mine'

        def forward(self, images, outputs=('features',)):
            return dict(features=self.network(images.float() / 255))

    dict(type='FrechetInceptionDistance', extractor=dict(type='MyExtractor'))
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.errors import CheckpointError, ConfigError, DataError
from mmsagan.evaluation.inception_v3 import InceptionV3, fold_batch_norms, resize_pytorch_fid, resize_tensorflow
from mmsagan.evaluation.resizing import Resize
from mmsagan.registry import EXTRACTORS
from mmsagan.utils.download import URLS, cached_file

# Arguments of the published evaluations, by MMagic's names.
INCEPTION_STYLES = dict(
    stylegan=dict(type='StyleGANInception'),
    pytorch=dict(type='PyTorchFIDInception'),
    digits=dict(type='DigitsExtractor'),
    fashion=dict(type='FashionExtractor'),
)


def extractor_config(style: str, path: str | None = None) -> dict:
    """The config of the extractor that ``inception_style`` names.

    Raises:
        ConfigError: There is none of that name.
    """
    if not isinstance(style, str) or style.lower() not in INCEPTION_STYLES:
        raise ConfigError(f'inception_style must be one of {", ".join(INCEPTION_STYLES)} (in any case), got {style!r}')
    return dict(INCEPTION_STYLES[style.lower()], **({} if path is None else dict(path=path)))


@dataclass(frozen=True)
class FeatureSource:
    """An extractor and how images are resized for it; equal ones are run once."""

    config: str
    name: str
    suffix: str
    is_inception: bool
    resized_for_score: bool
    resize: Resize | None = None

    @classmethod
    def of(cls, config: dict) -> 'FeatureSource':
        """The source that an extractor's config describes.

        Raises:
            ConfigError: No extractor is registered by that type.
        """
        kind = EXTRACTORS.get(config['type']) if isinstance(config, dict) and isinstance(config.get('type'), str) else None
        if kind is None:
            raise ConfigError(
                f'extractor={config!r}: expected dict(type=...) with a registered type; there are '
                f'{", ".join(EXTRACTORS.module_dict)}'
            )
        name, suffix = kind.describe(**{key: value for key, value in config.items() if key != 'type'})
        return cls(json.dumps(config, sort_keys=True), name, suffix, kind.is_inception, kind.resized_for_score)

    def resized(self, resize: Resize) -> 'FeatureSource':
        """The same extractor behind a resize."""
        return replace(self, name=f'{self.name}, {resize}', resize=resize)

    def build(self) -> 'FeatureExtractor':
        """Builds the extractor, in evaluation mode; a training's random numbers stay as they are."""
        with torch.random.fork_rng(devices=[]):
            return EXTRACTORS.build(json.loads(self.config)).eval().requires_grad_(False)


class FeatureExtractor(nn.Module):
    """Base of the extractors: images (N, 3, H, W) uint8 RGB -> dict of ``features`` (N, D) and ``probabilities`` (N, K).

    Attributes:
        name: Stands in the files of statistics made with it; empty: the name of the class.
        suffix: Stands in the names of metrics that use it, after ``FID``; None: the name of the class.
        is_inception: Whether a score may be called by the metric's name alone.
        resized_for_score: Whether its published Inception scores are of images resized before.
    """

    name = ''
    suffix: str | None = None
    is_inception = False
    resized_for_score = False

    @classmethod
    def describe(cls, **config) -> tuple[str, str]:
        """Name and suffix of the extractor with these arguments."""
        return cls.name or cls.__name__, f'-{cls.__name__}' if cls.suffix is None else cls.suffix

    def forward(self, images: Tensor, outputs: Collection[str] = ('features',)) -> dict[str, Tensor]:
        """Computes the outputs asked for."""
        raise TypeError(f'{type(self).__name__} has to define forward')


@EXTRACTORS.register_module()
class StyleGANInception(FeatureExtractor):
    """Tero Karras' TorchScript of the original Inception (2015), which resizes inside. 2 048 features, 1 008 classes.

    TorchScript is a program: what is fetched must have the sum of the published file, and a file given by its path is run.

    Args:
        path: The file, or another URL of the published one; None fetches that into the cache.

    Raises:
        DataError: The file is no TorchScript, or does not have this interface.
        DownloadError: It cannot be fetched.
    """

    name = 'inception-2015-12-05 (StyleGAN)'
    suffix = ''
    is_inception = True
    resized_for_score = True
    url = 'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt'
    sha256 = 'f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4'

    def __init__(self, path: str | None = None):
        super().__init__()
        # TorchScript is a program, and loading runs it: either this one, wherever it is fetched from, or the user's own file.
        is_fetched = path is None or path.startswith(URLS)
        file = cached_file(path or self.url, self.sha256) if is_fetched else _given_file(path)
        try:
            self.network = torch.jit.load(str(file), map_location='cpu').eval()
        except (RuntimeError, ValueError) as error:
            raise DataError(f'{file}: not a whole TorchScript file ({str(error).splitlines()[0][:200]})') from error
        try:
            self._shares_layers = self._can_share_layers()
        except (RuntimeError, TypeError) as error:
            raise DataError(f"{file}: not Tero Karras' Inception ({str(error).splitlines()[0][:200]})") from error

    @torch.no_grad()
    def _can_share_layers(self) -> bool:
        """Whether the probabilities are softmax(output.weight @ features), so that one run gives both."""
        probe = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        features = self.network(probe, return_features=True)
        probabilities = self.network(probe, no_output_bias=True)
        weight = dict(self.network.named_parameters()).get('output.weight')
        if weight is None or weight.shape != (probabilities.shape[1], features.shape[1]):
            return False
        return torch.allclose(F.linear(features, weight).softmax(1), probabilities, rtol=1e-3, atol=1e-6)

    def forward(self, images: Tensor, outputs: Collection[str] = ('features',)) -> dict[str, Tensor]:
        results = {}
        if 'features' in outputs:
            results['features'] = self.network(images, return_features=True)
        if 'probabilities' in outputs and 'features' in outputs and self._shares_layers:
            results['probabilities'] = F.linear(results['features'], self.network.output.weight).softmax(1)
        elif 'probabilities' in outputs:
            results['probabilities'] = self.network(images, no_output_bias=True)
        return results


@EXTRACTORS.register_module()
class PyTorchFIDInception(FeatureExtractor):
    """pytorch-fid's InceptionV3, which StudioGAN evaluates with. 2 048 features, 1 008 classes.

    Args:
        path: File of the weights; None fetches it into the cache.
        resize: 'pytorch-fid' as that project and StudioGAN resize to 299 pixels, or 'tensorflow' as the original network did.

    Raises:
        CheckpointError: The file does not hold these weights.
        DownloadError: It cannot be fetched.
    """

    name = 'inception-2015-12-05 (pytorch-fid)'
    suffix = '-PyTorch'
    is_inception = True
    url = 'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth'
    sha256 = '6726825d'

    @classmethod
    def describe(cls, **config) -> tuple[str, str]:
        if config.get('resize') == 'tensorflow':
            return f"{cls.name} with TensorFlow's resize", f'{cls.suffix}-TF'
        return cls.name, cls.suffix

    def __init__(self, path: str | None = None, resize: str = 'pytorch-fid'):
        super().__init__()
        methods = {'pytorch-fid': resize_pytorch_fid, 'tensorflow': resize_tensorflow}
        if resize not in methods:
            raise ConfigError(f'PyTorchFIDInception: resize must be one of {", ".join(methods)}, got {resize!r}')
        self.resize = methods[resize]
        self.network = InceptionV3()
        _load_weights(self.network, _given_file(path) or cached_file(self.url, self.sha256))
        fold_batch_norms(self.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, outputs: Collection[str] = ('features',)) -> dict[str, Tensor]:
        resized = self.resize(images.float()).contiguous(memory_format=torch.channels_last)
        # TensorFlow's graph scaled to [-1, 0.992], pytorch-fid scales to [-1, 1].
        scaled = (resized - 128) / 128 if self.resize is resize_tensorflow else resized / 127.5 - 1
        features, logits = self.network(scaled)
        return dict(features=features, probabilities=logits.softmax(1))


class SmallClassifier(FeatureExtractor):
    """A small classifier of grey images at 32x32 pixels. 64 features, 10 classes.

    Its weights are part of this package; ``tools/misc/train_small_extractor.py`` makes them. Its scores compare generators of
    the images that it was trained on, and have nothing to do with Inception's.

    Args:
        path: File of the weights; None takes those of the package.
        trained: Whether to load them; otherwise they are random.
    """

    weights: Path

    def __init__(self, path: str | None = None, trained: bool = True):
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, out_channels in ((1, 32), (32, 64), (64, 64)):
            layers += [
                nn.Conv2d(in_channels, out_channels, 3, padding=1),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.LeakyReLU(0.2))
        self.head = nn.Linear(64, 10)
        if trained:
            _load_weights(self, _given_file(path) or self.weights)

    def forward(self, images: Tensor, outputs: Collection[str] = ('features',)) -> dict[str, Tensor]:
        grey = images.float().mean(1, keepdim=True) / 127.5 - 1
        if grey.shape[2:] != (32, 32):
            grey = F.interpolate(grey, size=(32, 32), mode='bilinear', antialias=True)
        features, logits = self.classify(grey)
        return dict(features=features, probabilities=logits.softmax(1))

    def classify(self, grey: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 1, 32, 32) in [-1, 1] -> features (N, 64) and logits (N, 10)."""
        features = self.trunk(grey)
        return features, self.head(features)


@EXTRACTORS.register_module()
class DigitsExtractor(SmallClassifier):
    """Classifies digits: trained on 4 000 of the embedded MNIST digits, it recognizes 98.8 % of the other 1 000."""

    name = 'digits'
    suffix = '-digits'
    weights = Path(__file__).parent / 'weights' / 'digits.pth'


@EXTRACTORS.register_module()
class FashionExtractor(SmallClassifier):
    """Classifies clothes: trained on Fashion-MNIST's 60 000 training images, it recognizes 92.5 % of the 10 000 others."""

    name = 'fashion'
    suffix = '-fashion'
    weights = Path(__file__).parent / 'weights' / 'fashion.pth'


def _given_file(path: str | None) -> Path | None:
    if path is None:
        return None
    if path.startswith(URLS):
        return cached_file(path)
    if not Path(path).expanduser().is_file():
        raise DataError(f'the extractor file {path} does not exist')
    return Path(path).expanduser()


def _load_weights(network: nn.Module, path: Path) -> None:
    state = load_checkpoint_file(path)
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise CheckpointError(f'{path}: not the weights of {type(network).__name__}: {reason}') from error
