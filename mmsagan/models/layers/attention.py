"""The self-attention block of SAGAN."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.spectral_norm import spectral_norm
from mmsagan.registry import MODELS


@MODELS.register_module()
class SelfAttentionBlock(BaseModule):
    """Self-attention over all locations of a feature map (N, C, H, W), which keeps its shape.

    y = x + gamma * o, equation 3 of the paper, with a learned scalar gamma that starts at 0. Queries theta, keys phi, values g
    and the output projection o are 1x1 convolutions without bias; the softmax runs over the keys and nothing is scaled.

    The defaults are the official code's form: keys and values are max-pooled 2x2 and the values have C/2 channels. The
    paper's text (equations 1 and 2, C/8 throughout, no pooling) is ``value_reduction=8, pool=False``.

    Args:
        in_channels: C, a multiple of both reductions.
        with_spectral_norm: Whether the four convolutions are spectrally normalized.
        sn_eps: See :class:`~mmsagan.models.layers.spectral_norm.SpectralNorm`.
        query_key_reduction: C over the channels of queries and keys.
        value_reduction: C over the channels of the values.
        pool: Whether keys and values are max-pooled 2x2; H and W must then be even.

    Raises:
        ConfigError: C is not a multiple of the reductions.

    Example:
        >>> block = SelfAttentionBlock(16)
        >>> block(torch.rand(2, 16, 8, 8)).shape
        torch.Size([2, 16, 8, 8])
    """

    def __init__(
        self,
        in_channels: int,
        with_spectral_norm: bool = True,
        sn_eps: float = 1e-12,
        query_key_reduction: int = 8,
        value_reduction: int = 2,
        pool: bool = True,
    ):
        super().__init__()
        if in_channels % query_key_reduction or in_channels % value_reduction:
            raise ConfigError(
                f'SelfAttentionBlock needs in_channels divisible by {query_key_reduction} and '
                f'{value_reduction}, got {in_channels}; choose another base_channels or other reductions'
            )

        def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
            layer = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            return spectral_norm(layer, sn_eps) if with_spectral_norm else layer

        value_channels = in_channels // value_reduction
        self.pool = pool
        self.theta = conv(in_channels, in_channels // query_key_reduction)
        self.phi = conv(in_channels, in_channels // query_key_reduction)
        self.g = conv(in_channels, value_channels)
        self.o = conv(value_channels, in_channels)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        value = self._pooled(self.g(x)).flatten(2)
        out = value @ self.attention(x).transpose(1, 2)
        return x + self.gamma * self.o(out.unflatten(2, x.shape[2:]))

    def attention(self, x: Tensor, queries: Tensor | None = None) -> Tensor:
        """The attention weights beta that the block uses for x; each row sums to 1 (equation 1).

        Args:
            x: Features (N, C, H, W).
            queries: The locations whose rows are wanted, numbers y * W + x of shape (N, Q); None for all H * W.

        Returns:
            (N, Q, keys): the keys row by row, in a grid of :meth:`key_grid`.
        """
        query = self.theta(x).flatten(2)
        if queries is not None:
            query = query.gather(2, queries[:, None].expand(-1, query.shape[1], -1))
        key = self._pooled(self.phi(x)).flatten(2)
        return torch.softmax((query.transpose(1, 2) @ key).float(), dim=-1)

    def key_grid(self, x: Tensor) -> tuple[int, int]:
        """Height and width of the grid of keys for features x: their own, or with ``pool`` half of them."""
        height, width = x.shape[2:]
        return (height // 2, width // 2) if self.pool else (height, width)

    def _pooled(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2) if self.pool else x
