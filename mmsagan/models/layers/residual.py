"""The residual blocks of the generator and the discriminator."""

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsagan.models.layers.factory import LayerFactory
from mmsagan.registry import MODELS


@MODELS.register_module()
class GeneratorBlock(BaseModule):
    """(cBN-ReLU-upsample-conv3x3-cBN-ReLU-conv3x3) + (upsample-conv1x1): (N, in, H, W) -> (N, out, 2H, 2W).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        layers: Makes the layers; with ``num_classes`` 0 the norms are unconditional.
        upsample: Whether the block doubles the size. The shortcut has a convolution when it does or the channels change.
    """

    fast = True

    def __init__(self, in_channels: int, out_channels: int, layers: LayerFactory, upsample: bool = True):
        super().__init__()
        self.conditional = layers.num_classes > 0
        make_norm = layers.conditional_norm if self.conditional else layers.batch_norm
        self.upsample = upsample
        self.activation = layers.activation()
        self.norm_1 = make_norm(in_channels)
        self.conv_1 = layers.upsample_conv(in_channels, out_channels) if upsample else layers.conv(in_channels, out_channels)
        self.norm_2 = make_norm(out_channels)
        self.conv_2 = layers.conv(out_channels, out_channels)
        self.shortcut = layers.conv(in_channels, out_channels, 1) if upsample or in_channels != out_channels else None

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Features (N, in, H, W) -> (N, out, 2H, 2W); conditional norms need the label (N,)."""
        out = self.conv_1(self.activation(self._normalize(self.norm_1, x, label)))
        out = self.conv_2(self.activation(self._normalize(self.norm_2, out, label)))
        return out + self._shortcut(x)

    def _normalize(self, norm: nn.Module, x: Tensor, label: Tensor | None) -> Tensor:
        return norm(x, label) if self.conditional else norm(x)

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.shortcut is None:
            return x
        if not self.upsample:
            return self.shortcut(x)
        if self.fast:
            # A 1x1 convolution commutes with nearest-neighbour upsampling, at a quarter of the work before it.
            return F.interpolate(self.shortcut(x), scale_factor=2, mode='nearest')
        return self.shortcut(F.interpolate(x, scale_factor=2, mode='nearest'))


@MODELS.register_module()
class DiscriminatorBlock(BaseModule):
    """(ReLU-conv3x3-ReLU-conv3x3-avgpool) + (conv1x1-avgpool): (N, in, H, W) -> (N, out, H / 2, W / 2).

    In-place ReLU is a difference in function here. In the reference code the first ReLU, working in place, changes x before
    the shortcut reads it. This block says so instead of relying on aliasing: with ``act_cfg=dict(inplace=True)`` the shortcut
    is computed from ReLU(x), otherwise from x.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        layers: Makes the layers.
        downsample: Whether the block halves the size. The shortcut has a convolution when it does or the channels change.
    """

    fast = True

    def __init__(self, in_channels: int, out_channels: int, layers: LayerFactory, downsample: bool = True):
        super().__init__()
        self.downsample = downsample
        self.shortcut_of_activation = layers.inplace_activation
        self.activation = layers.activation()
        self.conv_1 = layers.conv(in_channels, out_channels)
        self.conv_2 = (
            layers.downsample_conv(out_channels, out_channels) if downsample else layers.conv(out_channels, out_channels)
        )
        self.shortcut = layers.conv(in_channels, out_channels, 1) if downsample or in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activation(x)
        out = self.conv_2(self.activation(self.conv_1(activated)))
        return out + self._shortcut(activated if self.shortcut_of_activation else x)

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.downsample and self.fast:
            # A 1x1 convolution commutes with averaging, at a quarter of the work after it.
            x = F.avg_pool2d(x, 2)
        if self.shortcut is not None:
            x = self.shortcut(x)
        if self.downsample and not self.fast:
            x = F.avg_pool2d(x, 2)
        return x


@MODELS.register_module()
class DiscriminatorHeadBlock(BaseModule):
    """The discriminator's first block: (conv3x3-ReLU-conv3x3-avgpool) + (avgpool-conv1x1), from the image.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the output.
        layers: Makes the layers.
    """

    def __init__(self, in_channels: int, out_channels: int, layers: LayerFactory):
        super().__init__()
        self.activation = layers.activation()
        self.conv_1 = layers.conv(in_channels, out_channels)
        self.conv_2 = layers.downsample_conv(out_channels, out_channels)
        self.shortcut = layers.conv(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_2(self.activation(self.conv_1(x))) + self.shortcut(F.avg_pool2d(x, 2))
