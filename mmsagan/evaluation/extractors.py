"""Feature extractors: images (N, 3, H, W) in [0, 255], uint8 or float -> features (N, D) and class probabilities (N, K).

Register a subclass of :class:`FeatureExtractor` and name it in a metric's config, ``extractor=dict(type='MyExtractor')``. Those
here also have short names, which are values of MMagic's argument ``inception_style``.
"""

import functools
import hashlib
import inspect
import json
import math
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.errors import CheckpointError, ConfigError, DataError
from mmsagan.evaluation.inception_v3 import InceptionV3, fold_batch_norms, resize_pytorch_fid, resize_tensorflow
from mmsagan.registry import EXTRACTORS
from mmsagan.utils import import_optional
from mmsagan.utils.download import URLS, cached_file

RESIZE_METHODS = ('bicubic', 'bilinear', 'nearest', 'lanczos', 'box')


class FeatureExtractor(nn.Module):
    """Base class of the extractors.

    Subclasses define ``forward(images, outputs=('features',))``, which takes images (N, 3, H, W) in [0, 255], uint8 or, from an
    evaluation that does not round, float32, and returns a dict of at least the ``outputs``: 'features' (N, D), 'probabilities'
    (N, K), or other arrays that a metric names. If it is no classifier, as Inception is, the Fréchet distance is called ``FD``.
    """

    name = ''  #: in files of statistics; defaults to that of the class
    suffix: str | None = None  #: what it adds to metrics' names, such as ``FID``; defaults to the name
    output_names: Sequence[str] = ('features', 'probabilities')  #: what it can return
    resize_modes: Sequence[str] = ()  #: values of its argument ``resize``, if it has one; the first is the default
    is_inception = False  #: whether scores may carry the metric's name alone
    num_features: int | None = None  #: D if it is known, to check the number of images before a file is downloaded


@functools.cache
def _pillow_threads() -> ThreadPoolExecutor:
    """Threads for Pillow, which releases the GIL: one for each core of this process's share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return ThreadPoolExecutor(max(1, cores // int(os.environ.get('LOCAL_WORLD_SIZE', 1))), 'pillow')


def resize_pillow(images: Tensor, method: str = 'bicubic', size: int = 299, rounds: bool = True) -> Tensor:
    """Resizes images (N, 3, H, W) in [0, 255] by one of :data:`RESIZE_METHODS`, with antialiasing.

    Returns images (N, 3, size, size) uint8; without ``rounds``, float32, which may leave [0, 255] a little.
    """
    arrays = images.round().clamp(0, 255).byte().permute(0, 2, 3, 1) if rounds else images.float().flatten(0, 1)

    def resize_one(array: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(array).resize((size, size), Image.Resampling[method.upper()]))

    resized = torch.from_numpy(np.stack([*_pillow_threads().map(resize_one, arrays.contiguous().cpu().numpy())]))
    resized = resized.permute(0, 3, 1, 2).contiguous() if rounds else resized.unflatten(0, images.shape[:2])
    return resized.to(images.device)


# How images in [0, 255] are resized to 299 pixels in the code that a mode is from, and which value the network sees as 0.
_RESIZES: dict[str, tuple[Callable[[Tensor], Tensor], float]] = dict(
    legacy=(resize_pytorch_fid, 127.5),
    tensorflow=(resize_tensorflow, 128),
    clean=(lambda images: resize_pillow(images, rounds=False).clamp(0, 255), 128),
    friendly=(partial(resize_pillow, method='bilinear', rounds=False), 127.5),
)


@dataclass(frozen=True)
class FeatureSource:
    """An extractor, given by its class and its config as JSON, and how images are prepared for it. Equal ones run once.

    Pillow resizes them by the method ``resize``, if any; ``quantize`` says whether they are rounded to uint8.
    """

    kind: type[FeatureExtractor]
    config: str
    name: str
    suffix: str
    resize: str | None = None
    quantize: bool = True

    @classmethod
    def from_config(
        cls, config: dict | None, style: str = '', path: str | None = None, resize: str | None = None
    ) -> 'FeatureSource':
        """The source of an extractor's config; without one, of MMagic's ``inception_style`` and ``inception_path``.

        The style is a registered name, in any case. ``resize`` replaces the config's.
        """
        if config is None:
            names = {name.lower(): name for name in EXTRACTORS.module_dict}
            config = dict(type=names.get(str(style).lower(), style), **(dict(path=path) if path else {}))
        kind = EXTRACTORS.get(config['type']) if isinstance(config, dict) and isinstance(config.get('type'), str) else None
        if kind is None:
            known = ', '.join(EXTRACTORS.module_dict)
            raise ConfigError(f'inception_style or extractor={config!r}: expected a registered type, which are {known}')
        config = dict(config, type=next(name for name, value in EXTRACTORS.module_dict.items() if value is kind))
        name = kind.name or kind.__name__
        suffix = f'-{name}' if kind.suffix is None else kind.suffix
        model, path = Path(getattr(kind, 'model', '')).name, config.get('path')
        if model and path and Path(path).name != model:
            name, suffix = Path(path).name, f'-{Path(path).name}'
        if resize or kind.resize_modes:
            stated = config.pop('resize', None)
            resize = resize or stated or kind.resize_modes[0]
            if resize not in kind.resize_modes:
                known = ', '.join(kind.resize_modes) or 'none'
                raise ConfigError(f'resize_mode={resize!r} of {kind.__name__}: its modes are {known}')
            if resize != kind.resize_modes[0]:
                config['resize'], name, suffix = resize, f'{name} {resize}', f'{suffix}-{resize}'
        try:
            inspect.signature(kind).bind(**{key: value for key, value in config.items() if key != 'type'})
        except TypeError as error:
            raise ConfigError(f'extractor={config}: {error}') from error
        return cls(kind, json.dumps(config, sort_keys=True), name, suffix)

    @property
    def num_features(self) -> int | None:
        """Length of a feature vector if it is known beforehand, as it is not for a file of the user's."""
        path = json.loads(self.config).get('path')
        return self.kind.num_features if path is None or str(path).startswith(URLS) else None

    @property
    def fingerprint(self) -> dict:
        """Name and arguments, with the sha256 of a file in place of its path; without it for the published file."""
        config = dict(json.loads(self.config), type=self.name)
        path = config.get('path')
        if isinstance(path, str) and (path.startswith(URLS) or Path(path).expanduser().is_file()):
            config['path'] = hashlib.sha256(_local_file(path).read_bytes()).hexdigest()
            if config['path'].startswith(getattr(self.kind, 'sha256', '-')):
                del config['path']
        return config

    def extract(self, extractor: FeatureExtractor, images: Tensor, outputs: set[str]) -> dict[str, Tensor]:
        """Computes an extractor's outputs for images (N, 3, H, W), and refuses missing ones, NaN and Inf."""
        values = extractor(images if self.resize is None else resize_pillow(images, self.resize), outputs)
        for output in outputs:
            if output not in values or values[output].shape[:1] != images.shape[:1] or values[output].ndim != 2:
                raise ConfigError(f'the extractor {self.name!r} gives no {output} (N, D)')
            if not values[output].isfinite().all():
                raise DataError(f'the {output} of {self.name!r} contain NaN or Inf')
        return values


class TorchScriptExtractor(FeatureExtractor):
    """A TorchScript file of StyleGAN's metrics, which resizes images itself.

    ``path`` is the file, or another URL of the published one. Loading TorchScript runs it: a downloaded file must have the
    sha256 of the published one; a local file is trusted.
    """

    url: str
    sha256: str

    def __init__(self, path: str | None = None):
        super().__init__()
        file = _local_file(path or self.url, self.sha256)
        try:
            self.network = torch.jit.load(str(file), map_location='cpu').eval()
            with torch.no_grad():
                self(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), self.output_names)
        except (RuntimeError, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0][:200]
            raise DataError(f'{file}: not the TorchScript file of {self.name} ({reason})') from error

    def forward(self, images: Tensor, outputs: Collection[str] = ('features',)) -> dict[str, Tensor]:
        arguments = dict(features='return_features', probabilities='no_output_bias')
        rounded = images.round().clamp(0, 255).byte()
        return {output: self.network(rounded, **{arguments[output]: True}) for output in outputs}


@EXTRACTORS.register_module(name=['StyleGANInception', 'stylegan'])
class StyleGANInception(TorchScriptExtractor):
    """Tero Karras' TorchScript of the original Inception (2015). 2 048 features, 1 008 classes."""

    name = 'inception-2015-12-05 (StyleGAN)'
    suffix = ''
    is_inception = True
    num_features = 2048
    url = 'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt'
    sha256 = 'f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4'


@EXTRACTORS.register_module(name=['VGG16Extractor', 'vgg16'])
class VGG16Extractor(TorchScriptExtractor):
    """Tero Karras' VGG16, by which StyleGAN, MMGeneration and MMagic measure precision and recall. 4 096 features."""

    name = 'vgg16'
    output_names = ('features',)
    num_features = 4096
    url = 'https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/vgg16.pt'
    sha256 = 'b437eb095feaeb0b83eb3fa11200ebca4548ee39a07fb944a417ddc516cc07c3'


@EXTRACTORS.register_module(name=['PyTorchFIDInception', 'pytorch'])
class PyTorchFIDInception(FeatureExtractor):
    """pytorch-fid's InceptionV3, which StudioGAN evaluates with. 2 048 features, 1 008 classes, 2 023 spatial features.

    ``resize`` is how images become 299 pixels large: 'legacy' (pytorch-fid: bilinear without antialiasing), 'tensorflow' (the
    original FID and ADM: the same, shifted), 'clean' (clean-fid: Pillow's bicubic with antialiasing, not rounded) or
    'friendly' (StudioGAN: the same, bilinear).
    """

    name = 'inception-2015-12-05 (pytorch-fid)'
    suffix = '-PyTorch'
    output_names = ('features', 'probabilities', 'spatial')
    resize_modes = (*_RESIZES,)
    is_inception = True
    num_features = 2048
    url = 'https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth'
    sha256 = '6726825d'

    def __init__(self, path: str | None = None, resize: str = 'legacy'):
        super().__init__()
        self.network = InceptionV3()
        self.resize, self.center = _RESIZES[resize]
        _load_weights(self.network, _local_file(path) if path else _local_file(self.url, self.sha256))
        fold_batch_norms(self.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, outputs: Collection[str] = ('features',)) -> dict[str, Tensor]:
        resized = self.resize(images.float()).contiguous(memory_format=torch.channels_last)
        features, logits, spatial = self.network(resized / self.center - 1)
        return dict(features=features, probabilities=logits.softmax(1), spatial=spatial)


class TransformersExtractor(FeatureExtractor):
    """A vision transformer of the package transformers, for images that Pillow resizes to 224 pixels (bicubic, rounded).

    ``path`` is the folder of a model, or its name on the Hugging Face Hub. Only safetensors are read.
    """

    output_names = ('features',)
    model: str
    network_class: str
    output: str
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, in [0, 1]

    def __init__(self, path: str | None = None):
        super().__init__()
        transformers = import_optional('transformers', 'features')
        place, options = str(Path(path or self.model).expanduser()), dict(use_safetensors=True, dtype=torch.float32)
        try:
            load = getattr(transformers, self.network_class).from_pretrained
            self.network, info = load(place, output_loading_info=True, **options)
            if info['missing_keys']:
                raise ValueError(f'it has no {min(info["missing_keys"])}')
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:300]
            raise DataError(f'{place}: not the folder of a {self.network_class}, or not on the Hub: {reason}') from error

    def forward(self, images: Tensor, outputs: Collection[str] = ('features',)) -> dict[str, Tensor]:
        mean, std = (255 * torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.std))
        return dict(features=self.network((resize_pillow(images, size=224) - mean) / std)[self.output])


@EXTRACTORS.register_module(name=['DINOv2Extractor', 'dinov2'])
class DINOv2Extractor(TransformersExtractor):
    """DINOv2, as in dgm-eval (Stein et al. 2023): the class token of ViT-L/14 after the last norm. 1 024 features."""

    name = 'dinov2'
    model = 'facebook/dinov2-large'
    network_class = 'Dinov2Model'
    output = 'pooler_output'

    def __init__(self, path: str | None = None):
        super().__init__(path)
        positions = self.network.embeddings.position_embeddings
        side, patches = math.isqrt(positions.shape[1] - 1), 224 // self.network.config.patch_size
        grid = positions[:, 1:].mT.unflatten(2, (side, side))
        # Meta's code, which dgm-eval runs, scales to a tenth of a patch more than transformers does.
        grid = F.interpolate(grid, scale_factor=(patches + 0.1) / side, mode='bicubic')
        positions.data = torch.cat([positions[:, :1], grid.flatten(2).mT], 1)


@EXTRACTORS.register_module(name=['CLIPExtractor', 'clip'])
class CLIPExtractor(TransformersExtractor):
    """CLIP's embedding of images, as in clean-fid: of OpenAI's ViT-B/32. 512 features."""

    name = 'clip'
    model = 'openai/clip-vit-base-patch32'
    network_class = 'CLIPVisionModelWithProjection'
    output = 'image_embeds'
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class SmallClassifier(FeatureExtractor):
    """Classifier of 32x32 grey images, to which other images are converted. 64 features, 10 classes.

    ``path`` is that of the weights, by default of the file in this package; without ``trained``, they are random. Its scores
    cannot be compared with Inception's. ``tools/misc/train_small_extractor.py`` trains it.
    """

    num_features = 64
    weights: Path

    def __init__(self, path: str | None = None, trained: bool = True):
        super().__init__()
        layers: list[nn.Module] = []
        for in_channels, out_channels in ((1, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.LeakyReLU(0.2))
        self.head = nn.Linear(64, 10)
        if trained:
            _load_weights(self, _local_file(path or str(self.weights)))

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


@EXTRACTORS.register_module(name=['DigitsExtractor', 'digits'])
class DigitsExtractor(SmallClassifier):
    """Classifier of digits: trained on 4 000 of the embedded MNIST digits; 98.8 % of the other 1 000 are right."""

    name = 'digits'
    weights = Path(__file__).parent / 'weights' / 'digits.pth'


@EXTRACTORS.register_module(name=['FashionExtractor', 'fashion'])
class FashionExtractor(SmallClassifier):
    """Classifier of clothes: trained on Fashion-MNIST's 60 000 training images; 92.5 % of the 10 000 test images are right."""

    name = 'fashion'
    weights = Path(__file__).parent / 'weights' / 'fashion.pth'


def _local_file(path: str, sha256: str | None = None) -> Path:
    """The local path of an extractor's file; one on the web is downloaded and checked."""
    if path.startswith(URLS):
        return cached_file(path, sha256)
    if not Path(path).expanduser().is_file():
        raise DataError(f'the extractor file {path} does not exist')
    return Path(path).expanduser()


def _load_weights(network: nn.Module, path: Path) -> None:
    state = load_checkpoint_file(path)
    try:
        # A plain dict has no version, so batch norm does not insist on num_batches_tracked, which the published files lack.
        network.load_state_dict(dict(state))
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise CheckpointError(f'{path}: not the weights of {type(network).__name__}: {reason}') from error
