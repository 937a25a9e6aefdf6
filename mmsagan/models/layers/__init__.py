"""The layers that the networks are made of."""

from mmsagan.models.layers.attention import SelfAttentionBlock
from mmsagan.models.layers.embedding import ClassEmbedding
from mmsagan.models.layers.factory import LayerFactory, set_fast
from mmsagan.models.layers.norm import ConditionalBatchNorm2d, build_batch_norm
from mmsagan.models.layers.resample import DownsampleConv2d, UpsampleConv2d
from mmsagan.models.layers.residual import DiscriminatorBlock, DiscriminatorHeadBlock, GeneratorBlock
from mmsagan.models.layers.spectral_norm import SpectralNorm, settle_spectral_norm, sigma, spectral_norm
from mmsagan.models.layers.substitute import ResidualAttentionSubstitute

__all__ = [
    'ClassEmbedding',
    'ConditionalBatchNorm2d',
    'DiscriminatorBlock',
    'DiscriminatorHeadBlock',
    'DownsampleConv2d',
    'GeneratorBlock',
    'LayerFactory',
    'ResidualAttentionSubstitute',
    'SelfAttentionBlock',
    'SpectralNorm',
    'UpsampleConv2d',
    'build_batch_norm',
    'set_fast',
    'settle_spectral_norm',
    'sigma',
    'spectral_norm',
]
