"""Evaluation on a device without float64, Apple's for example, which is emulated."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_any, tree_map

from mmsagan.evaluation import (
    Evaluator,
    FeatureExtractor,
    authenticity,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from mmsagan.evaluation.images import ImageBatch
from mmsagan.evaluation.moments import float64_device
from mmsagan.registry import EXTRACTORS

DEVICE = torch.device('lazy')


class OnDevice(torch.Tensor):
    """A tensor on the emulated device, whose numbers are those of ``inner``."""

    @staticmethod
    def __new__(cls, inner):
        if inner.dtype == torch.float64:
            raise TypeError('Cannot convert the tensor to float64 dtype')
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, inner.stride(), dtype=inner.dtype, device=DEVICE)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        device = kwargs.get('device')
        is_given = tree_any(lambda each: isinstance(each, cls), (args, kwargs))
        is_result = is_given if device is None else torch.device(device) == DEVICE
        args, kwargs = tree_map(lambda each: each.inner if isinstance(each, cls) else each, (args, kwargs))
        if device is not None and is_result:
            kwargs = dict(kwargs, device='cpu')
        elif is_given and kwargs.get('dtype') == torch.float64:  # converted before it is copied
            raise TypeError('Cannot convert the tensor to float64 dtype')
        return tree_map(
            lambda each: cls(each) if is_result and isinstance(each, torch.Tensor) else each, function(*args, **kwargs)
        )


class Emulation(TorchDispatchMode):
    def __torch_dispatch__(self, *args):
        return OnDevice.__torch_dispatch__(*args)


@EXTRACTORS.register_module()
class PlainExtractor(FeatureExtractor):
    """8 features, 3 probabilities."""

    name, suffix = 'plain', '-plain'

    def forward(self, images, outputs=('features',)):
        features = (images.float() / 255).flatten(1)[:, :8]
        return dict(features=features, probabilities=features[:, :3].softmax(1))


class Images:
    """Noise, on whatever device is asked for."""

    name, image_size = 'noise', (4, 4)

    def __init__(self, seed):
        self.images = torch.randint(0, 256, (40, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))

    def __len__(self):
        return len(self.images)

    def batches(self, num_images, batch_size, device):
        for index in torch.arange(num_images).split(batch_size):
            yield ImageBatch(self.images[index].to(device), index, torch.zeros(len(index), dtype=torch.long))


def scores(device):
    common = dict(extractor=dict(type='PlainExtractor'), fake_nums=40)
    names = ('FID', 'FIDInfinity', 'IS', 'KID', 'PR', 'AuthPct')
    evaluator = Evaluator([dict(common, type=name, **({'real_nums': 40} if name == 'PR' else {})) for name in names])
    evaluator.prepare(device, 16, Images(1), image_size=(4, 4))
    return evaluator.score(Images(2), 16, device)


def test_without_float64_the_cpu_accumulates():
    float64_device.cache_clear()
    expected = scores(torch.device('cpu'))
    features = [(each.images.float() / 255).flatten(1)[:, :8] for each in (Images(1), Images(2))]
    with Emulation():
        sets = [each.to(DEVICE) for each in features]
        assert sets[0].device == DEVICE and float64_device(DEVICE).type == 'cpu'
        assert scores(DEVICE) == pytest.approx(expected)
        for function in (kernel_distance, precision_recall, authenticity):
            assert function(*sets) == pytest.approx(function(*features))
        assert inception_score(sets[0].softmax(1), 2) == pytest.approx(inception_score(features[0].softmax(1), 2))
        moments = [moment for each in features for moment in (each.mean(0), each.T.cov())]
        assert frechet_distance(*(each.to(DEVICE) for each in moments)) == pytest.approx(frechet_distance(*moments))
    float64_device.cache_clear()
