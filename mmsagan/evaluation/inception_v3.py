"""The Inception network that FID and the Inception Score are defined by, and the two ways to resize images for it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# A step of a branch is one convolution (output channels, kernel size, stride), or several that share the step's input.
Convolution = tuple[int, int | tuple[int, int], int]
Step = Convolution | list[Convolution]
Branches = dict[str, Sequence[Step]]

_HORIZONTAL_7, _VERTICAL_7 = (1, 7), (7, 1)
_HORIZONTAL_3, _VERTICAL_3 = (1, 3), (3, 1)

# TensorFlow leaves the padding out of an average, PyTorch by default does not.
_AveragePool = partial(nn.AvgPool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_MaxPool = partial(nn.MaxPool2d, kernel_size=3, stride=1, padding=1)
_HalvingMaxPool = partial(nn.MaxPool2d, kernel_size=3, stride=2)


def _block_a(pool_channels: int) -> Branches:
    return {
        'branch1x1': [(64, 1, 1)],
        'branch5x5': [(48, 1, 1), (64, 5, 1)],
        'branch3x3dbl': [(64, 1, 1), (96, 3, 1), (96, 3, 1)],
        'branch_pool': [(pool_channels, 1, 1)],
    }


def _block_c(channels: int) -> Branches:
    across, down = (channels, _HORIZONTAL_7, 1), (channels, _VERTICAL_7, 1)
    return {
        'branch1x1': [(192, 1, 1)],
        'branch7x7': [(channels, 1, 1), across, (192, _VERTICAL_7, 1)],
        'branch7x7dbl': [(channels, 1, 1), down, across, down, (192, _HORIZONTAL_7, 1)],
        'branch_pool': [(192, 1, 1)],
    }


_BLOCK_B: Branches = {
    'branch3x3': [(384, 3, 2)],
    'branch3x3dbl': [(64, 1, 1), (96, 3, 1), (96, 3, 2)],
    'branch_pool': [],
}
_BLOCK_D: Branches = {
    'branch3x3': [(192, 1, 1), (320, 3, 2)],
    'branch7x7x3': [(192, 1, 1), (192, _HORIZONTAL_7, 1), (192, _VERTICAL_7, 1), (192, 3, 2)],
    'branch_pool': [],
}
_FORK: Step = [(384, _HORIZONTAL_3, 1), (384, _VERTICAL_3, 1)]
_BLOCK_E: Branches = {
    'branch1x1': [(320, 1, 1)],
    'branch3x3': [(384, 1, 1), _FORK],
    'branch3x3dbl': [(448, 1, 1), (384, 3, 1), _FORK],
    'branch_pool': [(192, 1, 1)],
}

# Name, input channels, branches, pooling of the branch 'branch_pool'. In the last block the network of 2015 takes the maximum
# where the paper averages, which is probably a slip, but published FIDs rest on it.
_MIXED: list[tuple[str, int, Branches, Callable[[], nn.Module]]] = [
    ('Mixed_5b', 192, _block_a(32), _AveragePool),
    ('Mixed_5c', 256, _block_a(64), _AveragePool),
    ('Mixed_5d', 288, _block_a(64), _AveragePool),
    ('Mixed_6a', 288, _BLOCK_B, _HalvingMaxPool),
    ('Mixed_6b', 768, _block_c(128), _AveragePool),
    ('Mixed_6c', 768, _block_c(160), _AveragePool),
    ('Mixed_6d', 768, _block_c(160), _AveragePool),
    ('Mixed_6e', 768, _block_c(192), _AveragePool),
    ('Mixed_7a', 768, _BLOCK_D, _HalvingMaxPool),
    ('Mixed_7b', 1280, _BLOCK_E, _AveragePool),
    ('Mixed_7c', 2048, _BLOCK_E, _MaxPool),
]


class _NormedConvolution(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, **kwargs):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _MixedBlock(nn.Module):
    """Branches side by side, their outputs concatenated; the branch named 'branch_pool' starts with ``pool``."""

    def __init__(self, in_channels: int, branches: Branches, pool: Callable[[], nn.Module]):
        super().__init__()
        self.pool = pool()
        self.layer_names: dict[str, list[list[str]]] = {}
        for branch, steps in branches.items():
            channels, self.layer_names[branch] = in_channels, []
            for number, step in enumerate(steps, 1):
                # The published names: a lone convolution has its branch's, others a number, those of a fork a letter too.
                convolutions = step if isinstance(step, list) else [step]
                name = branch if len(steps) == 1 else f'{branch}_{number}'
                names = [name] if len(convolutions) == 1 else [name + letter for letter in 'ab']
                for layer_name, (out_channels, kernel, stride) in zip(names, convolutions):
                    padding = 'same' if stride == 1 else 'valid'
                    layer = _NormedConvolution(channels, out_channels, kernel_size=kernel, stride=stride, padding=padding)
                    self.add_module(layer_name, layer)
                self.layer_names[branch].append(names)
                channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch, steps in self.layer_names.items():
            parts = [self.pool(x) if branch == 'branch_pool' else x]
            for names in steps:
                # Only the last step of a branch forks, so every step has a single input.
                (inputs,) = parts
                parts = [getattr(self, name)(inputs) for name in names]
            outputs += parts
        return torch.cat(outputs, 1)


class InceptionV3(nn.Module):
    """The Inception network of 2015 that TensorFlow's FID and Inception Score use, as PyTorch-FID ported it.

    Takes float images (N, 3, 299, 299) in [-1, 1] and returns features (N, 2048), the averages over the last feature map, and
    logits (N, 1008). Parameters and buffers are named and shaped as in the published weights,
    ``pt_inception-2015-12-05-6726825d.pth``, which load with or without their ``num_batches_tracked``. A new network has random
    weights, is in evaluation mode and asks for no gradients of its weights.

    It is torchvision's ``inception_v3`` without the auxiliary classifier and with three differences: 1008 classes, averages
    that leave the padding out, and a maximum in place of the average in the last block.

    Example:
        >>> features, logits = InceptionV3()(torch.rand(2, 3, 299, 299) * 2 - 1)
        >>> features.shape, logits.shape
        (torch.Size([2, 2048]), torch.Size([2, 1008]))
    """

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = _NormedConvolution(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = _NormedConvolution(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = _NormedConvolution(32, 64, kernel_size=3, padding=1)
        self.pool = _HalvingMaxPool()
        self.Conv2d_3b_1x1 = _NormedConvolution(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = _NormedConvolution(80, 192, kernel_size=3)
        for name, in_channels, branches, pool in _MIXED:
            self.add_module(name, _MixedBlock(in_channels, branches, pool))
        self.fc = nn.Linear(2048, 1008)
        self.register_load_state_dict_pre_hook(_add_missing_batch_counts)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[1:] != (3, 299, 299):
            raise ValueError(f'InceptionV3 takes images (N, 3, 299, 299), got {tuple(images.shape)}; resize them first')
        x = self.pool(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images))))
        x = self.pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, *_ in _MIXED:
            x = getattr(self, name)(x)
        features = x.mean((2, 3))
        return features, self.fc(features)


def fold_batch_norms(network: InceptionV3) -> InceptionV3:
    """Puts every batch norm into the convolution before it: the same function, in about three quarters of the time on a CPU.

    The network is changed and returned. Its state dict then no longer has the published names.
    """
    for layer in network.modules():
        if isinstance(layer, _NormedConvolution):
            layer.conv = fuse_conv_bn_eval(layer.conv, cast(nn.BatchNorm2d, layer.bn))
            layer.bn = nn.Identity()
    return network.requires_grad_(False)


def _add_missing_batch_counts(module: nn.Module, state_dict: dict, prefix: str, *_) -> None:
    """Makes ``num_batches_tracked``, which has no part in evaluation, optional in a state dict that is being loaded."""
    for name, buffer in module.named_buffers():
        if name.endswith('num_batches_tracked'):
            state_dict.setdefault(prefix + name, buffer)


def resize_tensorflow(images: Tensor, size: int = 299) -> Tensor:
    """Resizes as TensorFlow 1's ``resize_bilinear(align_corners=False)``, which the original FID and Inception Score use.

    Output pixel i reads the input at i * input size / ``size``, without the usual half-pixel offset: an enlarged image shifts
    to the top left by almost half an input pixel, and its last pixels repeat the edge. Nothing is smoothed when one shrinks.

    Args:
        images: Float images (N, C, H, W), in any range.
        size: Height and width of the output.

    Returns:
        Images (N, C, size, size) in float32 and in the same range.
    """
    images = images.float()
    # Width before height and single precision throughout, as in TensorFlow's kernel.
    for dim in (3, 2):
        length = images.shape[dim]
        position = torch.arange(size, dtype=torch.float32, device=images.device) * (length / size)
        low = position.long()
        fraction = position - low
        first = images.index_select(dim, low)
        second = images.index_select(dim, (low + 1).clamp(max=length - 1))
        images = first + (second - first) * (fraction if dim == 3 else fraction[:, None])
    return images


def resize_pytorch_fid(images: Tensor, size: int = 299) -> Tensor:
    """Resizes as PyTorch-FID does: bilinear with pixels' centres aligned and nothing smoothed when an image shrinks.

    Args:
        images: Float images (N, C, H, W), in any range.
        size: Height and width of the output.

    Returns:
        Images (N, C, size, size) of the same type and in the same range.
    """
    return F.interpolate(images, size=(size, size), mode='bilinear', align_corners=False)
