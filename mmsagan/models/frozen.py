"""Generators prepared for making many samples."""

import copy

import torch
from torch import Tensor, nn

from mmsagan.models.layers.spectral_norm import fold_spectral_norm


class FrozenGenerators:
    """Copies of generators in evaluation mode, made when they are first asked for, with their spectral norms divided out.

    Args:
        amp: Compute under bfloat16 autocast, with weights that are rounded once.
    """

    def __init__(self, amp: bool = False):
        self.amp = amp
        self._copies: dict[nn.Module, nn.Module] = {}

    @torch.no_grad()
    def __call__(self, network: nn.Module, noise: Tensor, label: Tensor | None) -> Tensor:
        """The images (N, 3, S, S) that the copy of a generator makes."""
        if network not in self._copies:
            self._copies[network] = self._freeze(copy.deepcopy(network))
        with torch.autocast(noise.device.type, dtype=torch.bfloat16, enabled=self.amp):
            return self._copies[network](noise, label=label)

    def _freeze(self, network: nn.Module) -> nn.Module:
        network = fold_spectral_norm(network).eval().requires_grad_(False)
        if self.amp:
            for module in network.modules():
                if isinstance(module, (nn.Conv2d, nn.Linear)):  # what autocast would round in every call
                    module.weight.data = module.weight.data.bfloat16()
        return network
