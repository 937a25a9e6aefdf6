"""The moving average of the generator."""

import copy

import torch
from torch import nn

from mmsagan.errors import ConfigError


class GeneratorEMA:
    """Keeps a copy of the generator that follows it as an exponential moving average.

    Weights and the batch norms' running mean and variance are averaged, so that the copy normalizes by statistics of the
    same iterations as its weights. The spectral norms' singular vectors are copied: an average of unit vectors would be
    shorter than one, and sigma with it too small.

    Args:
        momentum: Given as the decay (0.999) or as the share of the new weights (0.001): both mean decay 0.999.
        interval: The average is updated on every ``interval``-th update of the generator.
        start_iter: Up to this iteration the copy equals the generator.

    Raises:
        ConfigError: The momentum is out of range.
    """

    def __init__(self, momentum: float = 0.999, interval: int = 1, start_iter: int = 0):
        if not 0 <= momentum <= 1:
            raise ConfigError(f'ema_config: momentum must lie in [0, 1], got {momentum}')
        self.decay = max(momentum, 1 - momentum)
        self.interval = interval
        self.start_iter = start_iter

    @staticmethod
    def make_copy(generator: nn.Module) -> nn.Module:
        """A copy of the generator that takes no gradients and stays in evaluation mode."""
        return copy.deepcopy(generator).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, average: nn.Module, generator: nn.Module, iteration: int, num_updates: int) -> None:
        """Moves the average towards the generator.

        Args:
            average: The copy made by :meth:`make_copy`.
            generator: The trained generator.
            iteration: Training iterations done, this one included.
            num_updates: Updates of the generator done, this one included.
        """
        if iteration <= self.start_iter or num_updates == 1:
            average.load_state_dict(generator.state_dict())
        elif num_updates % self.interval == 0:
            averaged, current, copied = [], [], []
            source = generator.state_dict()
            for name, tensor in average.state_dict().items():
                if tensor.is_floating_point() and not name.endswith(('weight_u', 'weight_v')):
                    averaged.append(tensor)
                    current.append(source[name])
                else:
                    copied.append((tensor, source[name]))
            torch._foreach_lerp_(averaged, current, 1 - self.decay)
            for target, value in copied:
                target.copy_(value)
