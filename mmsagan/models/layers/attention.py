"""The self-attention block of SAGAN."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.arguments import check_counts
from mmsagan.models.layers.spectral_norm import normalized
from mmsagan.registry import MODELS

# Queries times keys from which the fused attention is the faster one on a CPU (tools/benchmark.py --what attention): it is for
# 32x32 locations with 16x16 keys, and is not for 16x16 with 8x8.
FUSED_FROM = 2**17


@MODELS.register_module()
class SelfAttentionBlock(BaseModule):
    """Self-attention over all locations of a feature map (N, C, H, W), which keeps its shape.

    y = x + gamma * o, equation 3 of the paper, with a learned scalar gamma that starts at 0. Queries theta, keys phi, values g
    and the output projection o are 1x1 convolutions without bias; the softmax runs over the keys and nothing is scaled.

    The defaults are the official code's form: keys and values are max-pooled 2x2 and the values have C/2 channels. The
    paper's text (equations 1 and 2, C/8 throughout, no pooling) is ``value_reduction=8, pool=False``.

    The fast way computes large maps, and on GPUs all maps, by PyTorch's fused attention, which never holds a weight for each
    pair of locations in memory. Its gradient cannot be differentiated again; the plain softmax's can.

    Args:
        in_channels: C, a multiple of both reductions.
        with_spectral_norm: Whether the four convolutions are spectrally normalized.
        sn_eps: See :class:`~mmsagan.models.layers.spectral_norm.SpectralNorm`.
        query_key_reduction: C over the channels of queries and keys.
        value_reduction: C over the channels of the values.
        pool: Whether keys and values are max-pooled 2x2.

    Raises:
        ConfigError: C is not a multiple of the reductions.

    Example:
        >>> block = SelfAttentionBlock(16)
        >>> block(torch.rand(2, 16, 8, 8)).shape
        torch.Size([2, 16, 8, 8])
    """

    fast = True

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
        check_counts(in_channels=in_channels, query_key_reduction=query_key_reduction, value_reduction=value_reduction)
        if in_channels % query_key_reduction or in_channels % value_reduction:
            raise ConfigError(
                f'SelfAttentionBlock needs in_channels divisible by {query_key_reduction} and '
                f'{value_reduction}, got {in_channels}; choose another base_channels or other reductions'
            )

        def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
            layer = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            return normalized(layer, with_spectral_norm, sn_eps)

        value_channels = in_channels // value_reduction
        self.pool = pool
        self.theta = conv(in_channels, in_channels // query_key_reduction)
        self.phi = conv(in_channels, in_channels // query_key_reduction)
        self.g = conv(in_channels, value_channels)
        self.o = conv(value_channels, in_channels)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.key_grid(x)
        fused = self.fast and (x.is_cuda or x.shape[2] * x.shape[3] * height * width >= FUSED_FROM)
        attended = self.attend_fused(x) if fused else self.attend(x)
        return x + self.gamma * self.o(attended)

    def attend(self, x: Tensor) -> Tensor:
        """The values (N, C / value_reduction, H, W) as each location attends to them, by equations 1 and 2."""
        value = self._pooled(self.g(x)).flatten(2)
        out = value @ self.attention(x).transpose(1, 2)
        return out.unflatten(2, x.shape[2:])

    def attend_fused(self, x: Tensor) -> Tensor:
        """The same by PyTorch's fused attention."""
        query, key, value = self.theta(x), self._pooled(self.phi(x)), self._pooled(self.g(x))
        # The kernels want one width for all three, on GPUs a multiple of 8; else they make way for one that holds all weights.
        # Zeros behind a query and its key leave their product as it is.
        width = -(-max(query.shape[1], value.shape[1]) // 8) * 8
        query, key, value_sequence = (_as_sequence(features, width) for features in (query, key, value))
        out = F.scaled_dot_product_attention(query, key, value_sequence, scale=1.0)
        # Back to channels-last features without moving anything.
        return out[:, 0, :, : value.shape[1]].unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)

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


def _as_sequence(features: Tensor, width: int) -> Tensor:
    """(N, C, H, W) -> one head's sequence (N, 1, H * W, width), filled up with zeros; no copy of channels-last features."""
    sequence = features.permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1).contiguous()
    return F.pad(sequence, (0, width - features.shape[1])) if features.shape[1] < width else sequence
