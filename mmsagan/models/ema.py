"""The moving average of the generator."""

import torch
from torch import nn

from mmsagan.errors import ConfigError


class GeneratorEMA:
    """Exponential moving average of the generator.

    The singular vectors of spectral norms are copied: averages of unit vectors would be too short, and so sigma too small.

    Args:
        momentum: Decay (0.999), or share of the new weights (0.001); both mean a decay of 0.999.
        interval: Number of updates of the generator per update of the average.
        start_iter: Iteration up to which the average equals the generator.
        buffers: ``'average'`` averages the running statistics of batch norms like the weights, so that both are of the same
            iterations; ``'copy'`` takes the generator's, as MMGeneration did in the published BigGAN schedule.
    """

    def __init__(self, momentum: float = 0.999, interval: int = 1, start_iter: int = 0, buffers: str = 'average'):
        if not 0 <= momentum <= 1:
            raise ConfigError(f'ema_config: momentum must lie in [0, 1], got {momentum}')
        if buffers not in ('average', 'copy'):
            raise ConfigError(f"ema_config: buffers must be 'average' or 'copy', got {buffers!r}")
        self.copied = ('weight_u', 'weight_v', *(('running_mean', 'running_var') if buffers == 'copy' else ()))
        self.decay = max(momentum, 1 - momentum)
        self.interval = interval
        self.start_iter = start_iter

    @torch.no_grad()
    def update(self, average: nn.Module, generator: nn.Module, iteration: int, num_updates: int) -> None:
        """Moves the average, a copy of the generator, towards it.

        ``iteration`` and ``num_updates`` count the training iterations and the generator's updates, including this one.
        """
        if iteration <= self.start_iter or num_updates == 1:
            average.load_state_dict(generator.state_dict())
        elif num_updates % self.interval == 0:
            source, state = generator.state_dict(), average.state_dict()
            copied = {name for name, tensor in state.items() if not tensor.is_floating_point() or name.endswith(self.copied)}
            averaged = [name for name in state if name not in copied]
            torch._foreach_lerp_([state[name] for name in averaged], [source[name] for name in averaged], 1 - self.decay)
            torch._foreach_copy_([state[name] for name in copied], [source[name] for name in copied])
