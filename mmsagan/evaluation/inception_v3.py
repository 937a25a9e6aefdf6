"""The Inception network that FID and the Inception Score are defined by, as ported by pytorch-fid."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# A branch is a sequence of convolutions (output channels, kernel size); a list holds convolutions side by side.
_Convolution = tuple[int, int | tuple[int, int]]
_Branch = Sequence[_Convolution | list[_Convolution]]

# Averages leave the padding out, as in TensorFlow; PyTorch includes it by default.
_AveragePool = partial(nn.AvgPool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
_MaxPool = partial(nn.MaxPool2d, kernel_size=3, stride=1, padding=1)
_HalvingMaxPool = partial(nn.MaxPool2d, kernel_size=3, stride=2)


class _ConvBNReLU(nn.Sequential):
    def __init__(self, in_channels: int, out_channels: int, **kwargs):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn: nn.Module = nn.BatchNorm2d(out_channels, eps=0.001)
        self.relu = nn.ReLU(inplace=True)


class _MixedBlock(nn.Module):
    """Branches side by side, whose outputs are concatenated; 'branch_pool' starts with ``pool``.

    With a halving pool, the last convolution of each branch has stride 2 and no padding.
    """

    def __init__(self, in_channels: int, pool: Callable[[], nn.Module], **branches: _Branch):
        super().__init__()
        self.pool = pool()
        self.layer_names: dict[str, list[list[str]]] = {}
        for branch, steps in branches.items():
            channels, self.layer_names[branch] = in_channels, []
            for number, step in enumerate(steps, 1):
                halves = pool is _HalvingMaxPool and number == len(steps)
                # The published names: a branch's only convolution has its name, others a number, those side by side a letter.
                convolutions = step if isinstance(step, list) else [step]
                name = branch if len(steps) == 1 else f'{branch}_{number}'
                names = [name] if len(convolutions) == 1 else [name + letter for letter in 'ab']
                for layer_name, (out_channels, kernel) in zip(names, convolutions):
                    options = dict(stride=2) if halves else dict(padding='same')
                    self.add_module(layer_name, _ConvBNReLU(channels, out_channels, kernel_size=kernel, **options))
                self.layer_names[branch].append(names)
                channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch, steps in self.layer_names.items():
            parts = [self.pool(x) if branch == 'branch_pool' else x]
            for names in steps:
                (inputs,) = parts  # only the last step of a branch has convolutions side by side
                parts = [getattr(self, name)(inputs) for name in names]
            outputs += parts
        return torch.cat(outputs, 1)


_BLOCK_A: dict[str, _Branch] = dict(
    branch1x1=[(64, 1)],
    branch5x5=[(48, 1), (64, 5)],
    branch3x3dbl=[(64, 1), (96, 3), (96, 3)],
)
_FORK: list[_Convolution] = [(384, (1, 3)), (384, (3, 1))]
_BLOCK_E: dict[str, _Branch] = dict(
    branch1x1=[(320, 1)],
    branch3x3=[(384, 1), _FORK],
    branch3x3dbl=[(448, 1), (384, 3), _FORK],
    branch_pool=[(192, 1)],
)


def _block_c(channels: int) -> _MixedBlock:
    across, down = (channels, (1, 7)), (channels, (7, 1))
    single: list[_Convolution] = [(channels, 1), across, (192, (7, 1))]
    double: list[_Convolution] = [(channels, 1), down, across, down, (192, (1, 7))]
    return _MixedBlock(768, _AveragePool, branch1x1=[(192, 1)], branch7x7=single, branch7x7dbl=double, branch_pool=[(192, 1)])


class InceptionV3(nn.Module):
    """The Inception network of 2015 that TensorFlow's FID and Inception Score use, as ported by pytorch-fid.

    Parameters and buffers have the names of the published weights, ``pt_inception-2015-12-05-6726825d.pth``, and of
    torchvision's ``inception_v3``. A new network is in evaluation mode and needs no gradients.
    """

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = _ConvBNReLU(3, 32, kernel_size=3, stride=2)
        self.Conv2d_2a_3x3 = _ConvBNReLU(32, 32, kernel_size=3)
        self.Conv2d_2b_3x3 = _ConvBNReLU(32, 64, kernel_size=3, padding=1)
        self.pool = _HalvingMaxPool()
        self.Conv2d_3b_1x1 = _ConvBNReLU(64, 80, kernel_size=1)
        self.Conv2d_4a_3x3 = _ConvBNReLU(80, 192, kernel_size=3)
        self.Mixed_5b = _MixedBlock(192, _AveragePool, **_BLOCK_A, branch_pool=[(32, 1)])
        self.Mixed_5c = _MixedBlock(256, _AveragePool, **_BLOCK_A, branch_pool=[(64, 1)])
        self.Mixed_5d = _MixedBlock(288, _AveragePool, **_BLOCK_A, branch_pool=[(64, 1)])
        double: list[_Convolution] = [(64, 1), (96, 3), (96, 3)]
        self.Mixed_6a = _MixedBlock(288, _HalvingMaxPool, branch3x3=[(384, 3)], branch3x3dbl=double, branch_pool=[])
        self.Mixed_6b = _block_c(128)
        self.Mixed_6c = _block_c(160)
        self.Mixed_6d = _block_c(160)
        self.Mixed_6e = _block_c(192)
        triple: list[_Convolution] = [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)]
        self.Mixed_7a = _MixedBlock(768, _HalvingMaxPool, branch3x3=[(192, 1), (320, 3)], branch7x7x3=triple, branch_pool=[])
        self.Mixed_7b = _MixedBlock(1280, _AveragePool, **_BLOCK_E)
        # The maximum, where the paper averages, is probably a slip, but published FIDs rest on it.
        self.Mixed_7c = _MixedBlock(2048, _MaxPool, **_BLOCK_E)
        self.fc = nn.Linear(2048, 1008)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 3, 299, 299) in [-1, 1] -> features (N, 2048), logits (N, 1008) and spatial features (N, 2023).

        Features are averages of the last map. Spatial ones are 17x17x7 values of ``mixed_6/conv``, as in guided-diffusion.
        """
        x = self.pool(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(images))))
        x = self.pool(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        for name, block in self.named_children():
            if name.startswith('Mixed'):
                x = block(x)
            if name == 'Mixed_6d':  # its first channels are those of its branch1x1
                spatial = x[:, :7].permute(0, 2, 3, 1).flatten(1)
        features = x.mean((2, 3))
        return features, self.fc(features), spatial


def fold_batch_norms(network: InceptionV3) -> InceptionV3:
    """Folds each batch norm into the convolution before it, in place: the same function in 3/4 of the time on a CPU."""
    for layer in network.modules():
        if isinstance(layer, _ConvBNReLU):
            layer.conv = fuse_conv_bn_eval(layer.conv, cast(nn.BatchNorm2d, layer.bn))
            layer.bn = nn.Identity()
    return network.requires_grad_(False)


# As pytorch-fid resizes images (N, C, H, W): without antialiasing.
resize_pytorch_fid = partial(F.interpolate, size=(299, 299), mode='bilinear', align_corners=False)


def resize_tensorflow(images: Tensor) -> Tensor:
    """Resizes float32 images (N, C, H, W) as TensorFlow 1's ``resize_bilinear``, as the original FID, without antialiasing.

    Output pixel i reads the input at i * input size / 299, without a half-pixel offset.
    """
    scale_and_shift = torch.tensor([[298.0, 0.0, -1.0], [0.0, 298.0, -1.0]], device=images.device) / 299
    grid = F.affine_grid(scale_and_shift.expand(len(images), 2, 3), [len(images), 1, 299, 299], align_corners=True)
    return F.grid_sample(F.pad(images, (0, 1, 0, 1), mode='replicate'), grid, align_corners=True)
