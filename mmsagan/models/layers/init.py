"""The weight initializations of the published runs, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.blocks import ConditionalBatchNorm2d, check_configs
from mmsagan.models.layers.spectral_norm import run_power_iterations


@dataclass(frozen=True)
class InitScheme:
    """Initial weights of a network.

    A conditional norm adds ``cbn_weight_offset`` to its scale embedding. With 1, the embedding is filled like other weights;
    with 0, it is the scale itself, and starts at 1, and the shift at 0.
    """

    fill: Callable[[Tensor, float], Tensor]  #: fills a weight in place, given the weight and a gain
    zero_bias: bool = True  #: whether biases start at 0; else they keep PyTorch's default
    conv3x3_gain: float = 1.0  #: of 3x3 convolutions, except the one that makes the image; all other layers have gain 1
    cbn_weight_offset: float = 1.0


INIT_SCHEMES = {
    'studio': InitScheme(nn.init.orthogonal_),
    'BigGAN': InitScheme(nn.init.xavier_uniform_, zero_bias=False),
    'SAGAN': InitScheme(nn.init.xavier_uniform_, cbn_weight_offset=0.0),
    'SNGAN': InitScheme(nn.init.xavier_uniform_, conv3x3_gain=sqrt(2), cbn_weight_offset=0.0),
}


def get_init_scheme(init_cfg: dict) -> InitScheme:
    """Returns the scheme that ``init_cfg=dict(type=NAME)`` names."""
    check_configs(init_cfg=init_cfg)
    name = init_cfg.get('type')
    if set(init_cfg) - {'type'}:
        raise ConfigError(f'init_cfg takes only type=NAME, got {init_cfg}')
    if name not in INIT_SCHEMES:
        raise ConfigError(f'unknown init scheme {name!r} in init_cfg; choose one of {", ".join(INIT_SCHEMES)}')
    return INIT_SCHEMES[name]


@torch.no_grad()
def initialize(network: nn.Module, scheme: InitScheme, image_layer: nn.Module | None = None) -> None:
    """Fills a network's weights, then runs the power iterations of its spectral norms until sigma fits.

    ``image_layer`` is the convolution that makes the image; its gain is 1.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            is_conv3x3 = isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module is not image_layer
            weight = getattr(module, 'weight_orig', module.weight)
            # orthogonal_ cannot fill a channels-last tensor.
            filled = torch.empty_like(weight, memory_format=torch.contiguous_format)
            weight.copy_(scheme.fill(filled, scheme.conv3x3_gain if is_conv3x3 else 1.0))
            bias = getattr(module, 'bias', None)
            if scheme.zero_bias and bias is not None:
                nn.init.zeros_(bias)
    for norm in (module for module in network.modules() if isinstance(module, ConditionalBatchNorm2d)):
        for name, child in norm.named_children():
            if isinstance(child, nn.Linear):  # the noise changes scales and shifts by a third at first
                child.weight.div_(3)
            elif isinstance(child, nn.Embedding) and scheme.cbn_weight_offset == 0:
                nn.init.constant_(getattr(child, 'weight_orig', child.weight), float(name == 'weight_embedding'))
    run_power_iterations(network)
