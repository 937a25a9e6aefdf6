"""3x3 convolutions joined with a change of size, plain and fast.

Both ways compute the same function from the same 3x3 weight. Convolving and averaging commute. So the average over 2x2 pixels
can be taken before the convolution, without skipping any, and the convolution then computes every second pixel only. Upsampling
by nearest neighbour is the transpose of it: zeros between the pixels, which a transposed convolution skips, and a sum over 2x2.
Either does a quarter of the plain form's multiplications. Merging the average into the kernel instead, which makes it 4x4,
leaves 4/9 of them, and on CPUs was slower in nearly every layer of these networks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class UpsampleConv2d(nn.Conv2d):
    """Nearest-neighbour upsampling by 2, then a 3x3 convolution: (N, C, H, W) -> (N, out, 2H, 2W).

    The fast way is a strided transposed convolution, then a sum over 2x2.
    """

    fast = True

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast:
            return super().forward(F.interpolate(x, scale_factor=2, mode='nearest'))
        kernel = self.weight.flip(2, 3).transpose(0, 1)
        out = box_filter(F.conv_transpose2d(x, kernel, stride=2), divisor=1)
        # oneDNN's transposed convolution in bfloat16 is five times slower with a bias.
        return out if self.bias is None else out.add_(self.bias.to(out.dtype)[:, None, None])


class DownsampleConv2d(nn.Conv2d):
    """A 3x3 convolution, then 2x2 average pooling: (N, C, H, W) -> (N, out, H // 2, W // 2).

    The fast way is a mean over 2x2, then a strided convolution.
    """

    fast = True

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True):
        super().__init__(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not self.fast:
            return F.avg_pool2d(super().forward(x), 2)
        return F.conv2d(box_filter(x, padding=1), self.weight, self.bias, stride=2)


def box_filter(x: Tensor, padding: int = 0, divisor: int = 4) -> Tensor:
    """The mean over every 2x2 pixels, none skipped: (N, C, H, W) -> (N, C, H - 1 + 2 padding, W - 1 + 2 padding).

    It is ``F.avg_pool2d(x, 2, stride=1)``, with a backward pass that takes half the time.

    Args:
        x: Features.
        padding: 1 for a frame of zeros around them, 0 for none.
        divisor: Of the sum of the four; 1 gives the sum instead of the mean.
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return _BoxFilter.apply(x, padding, divisor)
    return _filter(x, padding, divisor)


class _BoxFilter(torch.autograd.Function):
    """The filter with padding and the one without are each other's transpose."""

    @staticmethod
    def forward(ctx, x: Tensor, padding: int, divisor: int) -> Tensor:
        ctx.padding, ctx.divisor = padding, divisor
        return _filter(x, padding, divisor)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return box_filter(grad, 1 - ctx.padding, ctx.divisor), None, None


def _filter(x: Tensor, padding: int, divisor: int) -> Tensor:
    return F.avg_pool2d(x, 2, stride=1, padding=padding, divisor_override=divisor)
