"""The layers that the networks are made of."""

from mmsagan.models.layers.attention import ResidualAttentionSubstitute, SelfAttentionBlock
from mmsagan.models.layers.blocks import (
    ClassEmbedding,
    ConditionalBatchNorm2d,
    DiscriminatorBlock,
    DiscriminatorHeadBlock,
    DownsampleConv2d,
    GeneratorBlock,
    LayerFactory,
    UpsampleConv2d,
    set_fast,
)
from mmsagan.models.layers.spectral_norm import SpectralNorm, run_power_iterations, sigma, spectral_norm

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
    'run_power_iterations',
    'set_fast',
    'sigma',
    'spectral_norm',
]
