"""Small models and small data sets that the tests share."""

import hashlib
import itertools
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.dataset import base_dataset
from PIL import Image
from torch import Tensor, nn

from mmsagan.engine.config import load_config
from mmsagan.registry import MODELS
from mmsagan.utils import register_all_modules

ROOT = Path(__file__).parent.parent
FIXTURES = Path(__file__).parent / 'data' / 'fixtures'
_run_numbers = itertools.count()


@pytest.fixture(scope='session', autouse=True)
def registered_modules():
    register_all_modules()
    # Seconds that PyTorch's data loaders wait for each of their processes, if one has died or failed.
    torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5


@pytest.fixture(scope='session', autouse=True)
def what_takes_longer_than_small_trainings():
    """MMEngine lays the config's text out anew for each checkpoint, and collects garbage in each new data set."""
    with pytest.MonkeyPatch.context() as patch:
        for place in ('yapf.yapflib.yapf_api.FormatCode', 'mmengine.config.config.FormatCode'):
            patch.setattr(place, lambda text, **_: (text, False), raising=False)
        patch.setattr(base_dataset, 'gc', SimpleNamespace(collect=int))
        yield


@pytest.fixture(autouse=True)
def fixed_seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope='session')
def gan_config():
    """Makes the config of a small 32x32 GAN: gan_config(num_classes=3, generator=dict(...), ...)."""

    def make(num_classes: int = 3, generator: dict | None = None, discriminator: dict | None = None, **kwargs) -> dict:
        return dict(
            type='SAGAN',
            num_classes=num_classes,
            generator={
                **dict(type='SAGANGenerator', output_scale=32, base_channels=8, noise_size=16),
                **dict(attention_after_nth_block=2, with_spectral_norm=True),
                **(generator or {}),
            },
            discriminator={
                **dict(type='ProjDiscriminator', input_scale=32, base_channels=8, attention_after_nth_block=1),
                **(discriminator or {}),
            },
            **kwargs,
        )

    return make


@pytest.fixture(scope='session')
def settle():
    """Makes a GAN's generator work like a trained one, with settled norms and attention that takes part: settle(model)."""

    def run(model):
        model.init_weights()
        for name, parameter in model.generator.named_parameters():
            if name.endswith('gamma'):
                parameter.data.fill_(0.5)
        with torch.no_grad():
            for _ in range(10):
                model.generator.train()(model.draw_noise(4), model.draw_label(4))
        return model

    return run


@pytest.fixture(scope='session')
def imagenet_root(tmp_path_factory) -> Path:
    """A data set in ImageNet's layout: 3 classes of 6 JPEGs each, of several shapes, with meta/train.txt."""
    root = tmp_path_factory.mktemp('imagenet')
    random = np.random.default_rng(0)
    lines = []
    for label, wnid in enumerate(('n01440764', 'n01443537', 'n01484850')):
        folder = root / 'train' / wnid
        folder.mkdir(parents=True)
        for index in range(6):
            name = f'{wnid}_{index}.JPEG'
            pixels = random.integers(0, 256, (140 + 10 * index, 180 - 10 * index, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name, quality=90)
            lines.append(f'{wnid}/{name} {label}')
    (root / 'meta').mkdir()
    (root / 'meta' / 'train.txt').write_text('\n'.join(lines) + '\n')
    return root


@pytest.fixture(scope='session')
def cifar_arrays() -> tuple[np.ndarray, np.ndarray]:
    """100 random images (100, 32, 32, 3) and their labels, ten a class."""
    images = np.random.default_rng(1).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    return images, np.arange(100) % 10


@pytest.fixture(scope='session')
def cifar_root(tmp_path_factory, cifar_arrays) -> Path:
    """A data set in CIFAR-10's format, with its own checksums; its images are those of ``cifar_arrays``."""
    root = tmp_path_factory.mktemp('cifar')
    folder = root / 'cifar10' / 'cifar-10-batches-py'
    folder.mkdir(parents=True)
    images, labels = cifar_arrays
    sums = []
    for number in range(5):
        part = slice(20 * number, 20 * number + 20)
        data = pickle.dumps(
            dict(data=np.ascontiguousarray(images[part].transpose(0, 3, 1, 2)).reshape(20, 3072), labels=labels[part].tolist()),
            protocol=2,
        )
        (folder / f'data_batch_{number + 1}').write_bytes(data)
        sums.append(f'{hashlib.md5(data).hexdigest()}  data_batch_{number + 1}')
    (folder / 'md5sums.txt').write_text('\n'.join(sums) + '\n')
    return root


@MODELS.register_module()
class LinearGeneratorWithNorm(nn.Module):
    """Noise (N, 4) -> images (N, 3, 32, 32), by one matrix; batch normalized, so that it has buffers."""

    noise_size = 4
    output_scale = 32

    def __init__(self, num_classes=10):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.linear = nn.Linear(4, 3 * 32 * 32)

    def forward(self, noise, label=None):
        return torch.tanh(self.linear(self.norm(noise))).view(-1, 3, 32, 32)


@MODELS.register_module()
class LinearDiscriminator(nn.Module):
    """Images -> logits (N, 1)."""

    input_scale = 32

    def __init__(self, num_classes=10):
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 1)

    def forward(self, image, label=None):
        return self.linear(image.flatten(1))


@pytest.fixture
def tiny_run(tmp_path, cifar_root):
    """Makes the config of a short training run on tiny networks, or one-layer ones: tiny_run(max_iters=4, **options)."""

    def make(
        config: str = 'sagan/sagan_32_woReLUinplace_cifar10_b64x1.py',
        max_iters: int = 4,
        summary: bool = False,
        linear: bool = False,
        **options,
    ) -> Config:
        options = {
            'model.generator.base_channels': 8,
            'model.discriminator.base_channels': 8,
            'train_cfg.max_iters': max_iters,
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.dataset.data_root': str(cifar_root),
            'default_hooks.logger.interval': 1,
            **{key.replace('__', '.'): value for key, value in options.items()},
        }
        cfg = load_config(ROOT / 'configs' / config, options)
        if not summary:  # drawing its curves takes longer than the training
            cfg.default_hooks.pop('summary')
        if linear:
            cfg.model.generator = dict(type='LinearGeneratorWithNorm')
            cfg.model.discriminator = dict(type='LinearDiscriminator')
        cfg.launcher = 'none'
        cfg.work_dir = str(tmp_path / 'run')
        # MMEngine keeps loggers and message hubs by experiment name, to the second.
        cfg.experiment_name = f'test-{next(_run_numbers)}'
        return cfg

    return make


class InceptionStandIn(nn.Module):
    """Has the interface of Tero Karras' TorchScript file: uint8 images -> 6 features, or the probabilities of 5 classes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Conv2d(3, 6, 3, stride=2)
        self.output = nn.Linear(6, 5)

    def forward(
        self, img: Tensor, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False
    ) -> Tensor:
        resized = F.interpolate(img.to(torch.float32), size=(16, 16), mode='bilinear', align_corners=False)
        features = F.relu(self.layers(resized / 127.5 - 1)).mean(dim=(2, 3))
        if return_features:
            return features
        logits = F.linear(features, self.output.weight) if no_output_bias else self.output(features)
        return F.softmax(4 * logits if not no_output_bias else logits, dim=1)


@pytest.fixture(scope='session')
def inception_file(tmp_path_factory) -> str:
    """Path of the stand-in, saved as TorchScript."""
    path = tmp_path_factory.mktemp('inception') / 'stand_in.pt'
    torch.jit.script(InceptionStandIn().eval()).save(str(path))
    return str(path)


class Reference:
    """A checkpoint made with a reference's own code, and what that code computed from it."""

    def __init__(self, name: str):
        self.folder = FIXTURES / name
        self.is_bgr = name.startswith('mmagic')
        expected = np.load(self.folder / 'expected.npz')
        self.noise, self.label, self.images, self.logits = (
            torch.from_numpy(expected[key]) for key in ('z', 'labels', 'images', 'logits')
        )

    @property
    def path(self) -> Path:
        """The file to be loaded: of StudioGAN the generator's."""
        return next(self.folder.glob('checkpoint.pth' if self.is_bgr else 'model=G-*.pth'))

    @property
    def discriminator(self) -> Path:
        return next(self.folder.glob('model=D-*.pth'))

    def check(self, model) -> None:
        """Asserts that a model computes what the reference did, on RGB images."""
        images = self.images.flip(1) if self.is_bgr else self.images
        with torch.no_grad():
            torch.testing.assert_close(model.generator(self.noise, self.label), images, atol=1e-4, rtol=0)
            torch.testing.assert_close(model.discriminator(images, self.label)[:, 0], self.logits, rtol=1e-4, atol=0)


@pytest.fixture(params=['mmagic_32_wReLUinplace', 'mmagic_32_woReLUinplace', 'studiogan_current_32', 'studiogan_legacy_32'])
def reference(request) -> Reference:
    return Reference(request.param)


@pytest.fixture
def fixture_of():
    return Reference
