"""The self-attention block of SAGAN, and the residual block that the paper compares it with."""

from functools import partial

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.blocks import check_counts
from mmsagan.models.layers.spectral_norm import spectral_norm
from mmsagan.registry import MODELS

# Number of query-key pairs from which fused attention is faster on a CPU (tools/benchmark.py --what attention): it is for 32x32
# locations with 16x16 keys, and is not for 16x16 with 8x8.
FUSED_FROM = 2**17


def _reduce(in_channels: int, query_key_reduction: int, value_reduction: int) -> tuple[int, int]:
    check_counts(in_channels=in_channels, query_key_reduction=query_key_reduction, value_reduction=value_reduction)
    if in_channels % query_key_reduction or in_channels % value_reduction:
        reductions = f'{query_key_reduction=} and {value_reduction=}'
        raise ConfigError(f'attention: {in_channels=} must be divisible by {reductions}; change these, or base_channels')
    return in_channels // query_key_reduction, in_channels // value_reduction


@MODELS.register_module()
class SelfAttentionBlock(BaseModule):
    """Self-attention over all locations of a feature map: (N, C, H, W) -> (N, C, H, W).

    y = x + gamma * o, equation 3 of the paper, with a learned scalar gamma that starts at 0. Queries theta, keys phi, values g
    and the output projection o are 1x1 convolutions without bias; the softmax runs over the keys, without scaling.

    The defaults are those of the official code. The paper's text has C/8 and no pooling: ``value_reduction=8, pool=False``.

    The fast implementation uses PyTorch's fused attention for large maps, and for all maps on GPUs. It never holds the weights
    of all pairs of locations in memory, and its gradient cannot be differentiated again.

    Args:
        in_channels: C.
        with_spectral_norm, sn_eps: Whether the four convolutions are spectrally normalized, and by which epsilon.
        query_key_reduction, value_reduction: Ratios of C to the channels of queries and keys, and to those of the values.
        pool: Whether keys and values are max-pooled 2x2.
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
        key_channels, value_channels = _reduce(in_channels, query_key_reduction, value_reduction)
        conv = partial(nn.Conv2d, kernel_size=1, bias=False)
        normalize = partial(spectral_norm, eps=sn_eps, enabled=with_spectral_norm)
        self.pool = pool
        self.max_pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.theta = normalize(conv(in_channels, key_channels))
        self.phi = normalize(conv(in_channels, key_channels))
        self.g = normalize(conv(in_channels, value_channels))
        self.o = normalize(conv(value_channels, in_channels))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        height, width = self.key_grid(x)
        fused = self.fast and (x.is_cuda or x.shape[2] * x.shape[3] * height * width >= FUSED_FROM)
        attended = self.attend_fused(x) if fused else self.attend(x)
        return x + self.gamma * self.o(attended)

    def attend(self, x: Tensor) -> Tensor:
        """Sums the values (N, C / value_reduction, H, W) by the attention of each location, equations 1 and 2."""
        value = self.max_pool(self.g(x)).flatten(2)
        out = value @ self.attention(x).transpose(1, 2)
        return out.unflatten(2, x.shape[2:])

    def attend_fused(self, x: Tensor, pads: bool = True) -> Tensor:
        """Computes the same with PyTorch's fused attention; without padding, for comparison, the kernel may be another one."""
        query, key, value = self.theta(x), self.max_pool(self.phi(x)), self.max_pool(self.g(x))
        widths = [features.shape[1] for features in (query, key, value)]
        if pads:
            # Otherwise PyTorch may fall back to a kernel that holds all weights. Zeros appended to vectors change no product.
            # On GPUs, memory-efficient attention takes multiples of 16 bytes.
            multiple = 16 // query.element_size() if query.is_cuda else 1
            widths = [-(-width // multiple) * multiple for width in widths]
            # Flash attention takes one width. On GPUs it does not take float32.
            widths = widths if query.is_cuda and query.dtype == torch.float32 else [max(widths)] * 3
        # (N, C, H, W) -> (N, 1 head, H * W, width), without copying channels-last features
        sequences = [features.permute(0, 2, 3, 1).flatten(1, 2).unsqueeze(1).contiguous() for features in (query, key, value)]
        q, k, v = (F.pad(s, (0, width - s.shape[3])) if s.shape[3] < width else s for s, width in zip(sequences, widths))
        out = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        # Back to channels-last features, without a copy
        return out[:, 0, :, : value.shape[1]].unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)

    def attention(self, x: Tensor, queries: Tensor | None = None) -> Tensor:
        """Computes the attention weights beta of equation 1 for features (N, C, H, W): (N, Q, keys), each row of sum 1.

        Queries (N, Q) are the locations y * W + x of these rows, by default all. Keys are in row-major order of the key grid.
        """
        query = self.theta(x).flatten(2)
        if queries is not None:
            query = query.gather(2, queries[:, None].expand(-1, query.shape[1], -1))
        key = self.max_pool(self.phi(x)).flatten(2)
        # Logits are large, and their rounding errors become relative errors of the weights.
        with torch.autocast(x.device.type, enabled=False):
            return torch.softmax(query.float().transpose(1, 2) @ key.float(), dim=-1)

    def key_grid(self, x: Tensor) -> tuple[int, int]:
        """Returns height and width of the grid of keys for features x."""
        height, width = x.shape[2:]
        return (height // 2, width // 2) if self.pool else (height, width)


@MODELS.register_module()
class ResidualAttentionSubstitute(BaseModule):
    """A residual block with as many parameters as :class:`SelfAttentionBlock`: (N, C, H, W) -> (N, C, H, W).

    For table 1 of the paper, which asks whether attention helps or only its parameters do:
    y = x + gamma * conv1x1(ReLU(conv3x3(ReLU(x)))), with a learned scalar gamma that starts at 0, and no biases. The paper
    gives the block's size only; its form follows the discriminator's blocks. The 3x3 convolution has C/8 output channels, or
    in general (C/query_key_reduction + C/value_reduction) / 5. Takes the arguments of :class:`SelfAttentionBlock`.
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
        # Attention has 2 (C/q + C/v) C weights, this block 9 h C + h C.
        hidden_channels, remainder = divmod(sum(_reduce(in_channels, query_key_reduction, value_reduction)), 5)
        if remainder:
            quotients = 'in_channels/query_key_reduction + in_channels/value_reduction'
            raise ConfigError(f'ResidualAttentionSubstitute: {in_channels=}, but {quotients} must be a multiple of 5')
        normalize = partial(spectral_norm, eps=sn_eps, enabled=with_spectral_norm)
        self.reduce = normalize(nn.Conv2d(in_channels, hidden_channels, 3, padding=1, bias=False))
        self.expand = normalize(nn.Conv2d(hidden_channels, in_channels, 1, bias=False))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gamma * self.expand(F.relu(self.reduce(F.relu(x))))
