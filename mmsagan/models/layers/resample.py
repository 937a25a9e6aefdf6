"""3x3 convolutions joined with a change of size, plain and folded.

Both ways compute the same function from the same 3x3 weight. Folding merges the resampling into the kernel: upsampling by
nearest neighbour and then convolving equals a transposed 4x4 convolution of stride 2; convolving and then averaging 2x2
equals a 4x4 convolution of stride 2. Either does 4/9 of the multiplications.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class UpsampleConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution: (N, C, H, W) -> (N, out, 2H, 2W).

    Args:
        folded: Compute it as one transposed convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True, folded: bool = False):
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)
        self.folded = folded

    def forward(self, x: Tensor) -> Tensor:
        if self.folded:
            return F.conv_transpose2d(x, fold_upsample(self.weight), self.bias, stride=2, padding=1)
        return super().forward(F.interpolate(x, scale_factor=2, mode='nearest'))


class DownsampleConv2d(nn.Conv2d):
    """A 3x3 convolution, then 2x2 average pooling: (N, C, H, W) -> (N, out, H / 2, W / 2), for even H and W.

    Args:
        folded: Compute it as one strided convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True, folded: bool = False):
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)
        self.folded = folded

    def forward(self, x: Tensor) -> Tensor:
        # An odd size loses its last row or column in the pooling, which the folded form cannot express.
        if self.folded and x.shape[-1] % 2 == 0 and x.shape[-2] % 2 == 0:
            return F.conv2d(x, fold_downsample(self.weight), self.bias, stride=2, padding=1)
        return F.avg_pool2d(super().forward(x), 2)


def fold_downsample(weight: Tensor) -> Tensor:
    """The 4x4 kernel, stride 2, padding 1, of a 3x3 convolution followed by 2x2 average pooling."""
    return F.avg_pool2d(weight, 2, stride=1, padding=1)


def fold_upsample(weight: Tensor) -> Tensor:
    """The 4x4 kernel of the transposed convolution (in, out, 4, 4) that equals upsampling and then ``weight``."""
    return 4 * F.avg_pool2d(weight, 2, stride=1, padding=1).flip(2, 3).transpose(0, 1)
