"""What stands in self-attention's place when the paper asks whether attention helps, or only its parameters (table 1)."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.arguments import check_counts
from mmsagan.models.layers.spectral_norm import normalized
from mmsagan.registry import MODELS


@MODELS.register_module()
class ResidualAttentionSubstitute(BaseModule):
    """A residual block with exactly as many parameters as :class:`SelfAttentionBlock`: (N, C, H, W) -> (N, C, H, W).

    y = x + gamma * conv1x1(ReLU(conv3x3(ReLU(x)))), with a learned scalar gamma that starts at 0 and no biases, as attention
    has it. The paper names the block's size only; its form is ours, after the discriminator's blocks.

    The 3x3 convolution leads to C/8 channels, the 1x1 convolution back: 9/8 + 1/8 = 5/4 of C² weights, as theta, phi, g and o
    have with 1/8 + 1/8 + 1/2 + 1/2. Other reductions lead to (C/query_key_reduction + C/value_reduction) / 5 channels, if that
    is a whole number.

    Args:
        in_channels: C.
        with_spectral_norm: Whether both convolutions are spectrally normalized.
        sn_eps: See :class:`~mmsagan.models.layers.spectral_norm.SpectralNorm`.
        query_key_reduction: That of the attention block whose size it has.
        value_reduction: Likewise.

    Raises:
        ConfigError: There is no such attention block, or no residual block of its size.

    Example:
        >>> substitute = MODELS.build(dict(type='ResidualAttentionSubstitute', in_channels=64))
        >>> attention = MODELS.build(dict(type='SelfAttentionBlock', in_channels=64))
        >>> [sum(weight.numel() for weight in block.parameters()) for block in (substitute, attention)]
        [5121, 5121]
    """

    def __init__(
        self,
        in_channels: int,
        with_spectral_norm: bool = True,
        sn_eps: float = 1e-12,
        query_key_reduction: int = 8,
        value_reduction: int = 2,
    ):
        super().__init__()
        check_counts(in_channels=in_channels, query_key_reduction=query_key_reduction, value_reduction=value_reduction)
        hidden_channels = _hidden_channels(in_channels, query_key_reduction, value_reduction)

        def conv(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
            layer = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
            return normalized(layer, with_spectral_norm, sn_eps)

        self.reduce = conv(in_channels, hidden_channels, 3)
        self.expand = conv(hidden_channels, in_channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.expand(F.relu(self.reduce(F.relu(x))))


def _hidden_channels(in_channels: int, query_key_reduction: int, value_reduction: int) -> int:
    if in_channels % query_key_reduction or in_channels % value_reduction:
        raise ConfigError(
            f'ResidualAttentionSubstitute needs in_channels divisible by {query_key_reduction} and {value_reduction}, as the '
            f'attention in its place does, got {in_channels}; choose another base_channels or other reductions'
        )
    # Attention has 2 (C/q + C/v) C weights, this block 9 h C + h C.
    hidden, remainder = divmod(in_channels // query_key_reduction + in_channels // value_reduction, 5)
    if remainder:
        raise ConfigError(
            f'ResidualAttentionSubstitute cannot be of the size of an attention block with in_channels={in_channels}, '
            f'query_key_reduction={query_key_reduction} and value_reduction={value_reduction}: '
            f'{in_channels}/{query_key_reduction} + {in_channels}/{value_reduction} is no multiple of 5; '
            'the default reductions, 8 and 2, always fit'
        )
    return hidden
