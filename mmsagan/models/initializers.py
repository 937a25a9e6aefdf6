"""The weight initializations of the published runs, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn

from mmsagan.errors import ConfigError
from mmsagan.models.layers.arguments import check_configs
from mmsagan.models.layers.norm import ConditionalBatchNorm2d
from mmsagan.models.layers.spectral_norm import settle_spectral_norm


@dataclass(frozen=True)
class InitScheme:
    """How a network's weights start.

    Args:
        fill: Fills a weight in place, given the weight and a gain.
        zero_bias: Whether biases start at 0 (else they keep PyTorch's default).
        conv3x3_gain: Gain of 3x3 convolutions, but for the one that makes the image; all other layers have gain 1.
        cbn_weight_is_offset: True: the conditional norm's scale is 1 + embedding, filled like other weights. False: it is the
            embedding itself, which starts at 1, and the shift's at 0.
    """

    fill: Callable[[Tensor, float], Tensor]
    zero_bias: bool = True
    conv3x3_gain: float = 1.0
    cbn_weight_is_offset: bool = True

    @property
    def cbn_weight_offset(self) -> float:
        """What is added to the scale embedding of a conditional norm."""
        return 1.0 if self.cbn_weight_is_offset else 0.0


INIT_SCHEMES = {
    'studio': InitScheme(nn.init.orthogonal_),
    'BigGAN': InitScheme(nn.init.xavier_uniform_, zero_bias=False),
    'SAGAN': InitScheme(nn.init.xavier_uniform_, cbn_weight_is_offset=False),
    'SNGAN': InitScheme(nn.init.xavier_uniform_, conv3x3_gain=sqrt(2), cbn_weight_is_offset=False),
}


def get_init_scheme(init_cfg: dict) -> InitScheme:
    """The scheme that ``init_cfg=dict(type=NAME)`` names.

    Raises:
        ConfigError: There is no scheme of that name.
    """
    check_configs(init_cfg=init_cfg)
    name = init_cfg.get('type')
    if set(init_cfg) - {'type'}:
        raise ConfigError(f'init_cfg takes only type=NAME, got {init_cfg}')
    if name not in INIT_SCHEMES:
        raise ConfigError(f'unknown init scheme {name!r} in init_cfg; choose one of {", ".join(INIT_SCHEMES)}')
    return INIT_SCHEMES[name]


def initialize(network: nn.Module, scheme: InitScheme, image_layer: nn.Module | None = None) -> None:
    """Fills a network's weights by a scheme and settles its spectral norms.

    Args:
        network: Generator or discriminator.
        scheme: One of :data:`INIT_SCHEMES`.
        image_layer: The convolution that makes the image, which has gain 1 whatever its size.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.Embedding)):
            is_conv3x3 = isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module is not image_layer
            _fill(_raw_weight(module), scheme, scheme.conv3x3_gain if is_conv3x3 else 1.0)
            bias = getattr(module, 'bias', None)
            if scheme.zero_bias and bias is not None:
                nn.init.zeros_(bias)
    if not scheme.cbn_weight_is_offset:
        for module in network.modules():
            if isinstance(module, ConditionalBatchNorm2d):
                nn.init.ones_(_raw_weight(module.weight_embedding))
                nn.init.zeros_(_raw_weight(module.bias_embedding))
    settle_spectral_norm(network)


@torch.no_grad()
def _fill(weight: Tensor, scheme: InitScheme, gain: float) -> None:
    # By way of a contiguous tensor, since torch's orthogonal_ cannot fill one that lies channels-last.
    weight.copy_(scheme.fill(torch.empty_like(weight, memory_format=torch.contiguous_format), gain))


def _raw_weight(module: nn.Module) -> Tensor:
    return cast(Tensor, getattr(module, 'weight_orig', module.weight))
