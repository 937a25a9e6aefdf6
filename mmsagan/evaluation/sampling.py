"""Noise and labels by sample number, and standing statistics."""

import torch
from mmengine.model import revert_sync_batchnorm
from numpy.random import MT19937, RandomState, SeedSequence
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Numbers are drawn in blocks: one random state for every sample would take longer than the numbers.
_BLOCK = 64


class SampleInputs:
    """Noise and label of sample ``i``, which depend on ``i`` and the seed alone.

    They do not depend on batch size, number of processes, device or library versions: numpy's ``RandomState`` is frozen.

    Args:
        noise_size: Length of a noise vector.
        num_classes: Labels are uniform below it; 0: no labels.
        seed: A number, or several.
    """

    def __init__(self, noise_size: int, num_classes: int = 0, seed: int | tuple[int, ...] = 0):
        self.noise_size = noise_size
        self.num_classes = num_classes
        self.seed = seed if isinstance(seed, tuple) else (seed,)

    def draw(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """Standard normal noise (stop - start, noise_size) and labels (stop - start,) of the samples from ``start`` on."""
        return self.noise(start, stop), self.labels(start, stop) if self.num_classes else None

    def noise(self, start: int, stop: int) -> Tensor:
        """Noise alone."""
        return self._draw(start, stop, 0, lambda state: state.standard_normal((_BLOCK, self.noise_size))).float()

    def labels(self, start: int, stop: int) -> Tensor:
        """Labels alone."""
        return self._draw(start, stop, 1, lambda state: state.randint(self.num_classes, size=_BLOCK)).long()

    def _draw(self, start: int, stop: int, stream: int, draw) -> Tensor:
        first = start // _BLOCK
        blocks = [
            torch.from_numpy(draw(RandomState(MT19937(SeedSequence((*self.seed, stream, block))))))
            for block in range(first, max(-(-stop // _BLOCK), first + 1))
        ]
        return torch.cat(blocks)[start - first * _BLOCK : stop - first * _BLOCK]


@torch.no_grad()
def with_standing_statistics(generator: nn.Module, inputs: SampleInputs, steps: int, batch_size: int) -> nn.Module:
    """Computes the batch norms' statistics anew: their mean over ``steps`` batches, as BigGAN and StudioGAN do.

    Training's running statistics lag behind the weights, and an averaged generator has none of its own. Every process
    computes all batches, so that the result does not depend on their number.

    Args:
        generator: Is changed.
        inputs: Noise and labels, other ones than the evaluated samples'.
        steps: Number of batches.
        batch_size: Their size.

    Returns:
        The generator, in evaluation mode.
    """
    generator = revert_sync_batchnorm(generator).eval()
    norms = [module for module in generator.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the plain mean over all batches
        norm.train()
    device = next(generator.parameters()).device
    for step in range(steps):
        noise, label = inputs.draw(step * batch_size, (step + 1) * batch_size)
        generator(noise.to(device), label=None if label is None else label.to(device))
    return generator.eval()
