"""What the metrics keep of the samples; each works with any order of samples and any number of processes.

An accumulator has ``update(values, index, label)``, called for the samples of this process, and ``finish()``, called once on
all processes. :class:`~mmsagan.evaluation.moments.Moments` is one, too.
"""

from typing import Protocol

import torch
from mmengine.dist import all_gather, all_reduce
from torch import Tensor

from mmsagan.errors import ConfigError


class Accumulator(Protocol):
    """The interface of the accumulators."""

    def update(self, values: Tensor, index: Tensor, label: Tensor) -> None:
        """Adds samples: their features or probabilities (N, D), numbers (N,) and classes (N,)."""

    def finish(self) -> None:
        """Brings together what the processes have seen."""


class SplitScores:
    """Sums over class probabilities from which the Inception score follows, for every split; float64.

    Sample ``i`` of ``N`` belongs to split ``s`` if ``s N / splits <= i < (s + 1) N / splits`` (rounded down), so that no sample
    is left out when the count does not divide.

    Args:
        num_samples: N.
        num_classes: Length of a probability vector.
        splits: Number of splits.
        device: Where the sums are.
    """

    def __init__(self, num_samples: int, num_classes: int, splits: int, device: torch.device | str = 'cpu'):
        if not 1 <= splits <= num_samples:
            raise ConfigError(f'Inception score: splits={splits} of {num_samples} samples; there must be 1 to {num_samples}')
        self.bounds = torch.tensor([s * num_samples // splits for s in range(1, splits + 1)], device=device)
        self.total = torch.zeros(splits, num_classes, dtype=torch.float64, device=device)
        self.negentropy = torch.zeros(splits, 1, dtype=torch.float64, device=device)

    def update(self, values: Tensor, index: Tensor, label: Tensor | None = None) -> None:
        probs = values.to(self.total)
        split = torch.searchsorted(self.bounds, index.to(self.bounds), right=True)
        self.total.index_add_(0, split, probs)
        self.negentropy.index_add_(0, split, torch.xlogy(probs, probs).sum(1, keepdim=True))

    def finish(self) -> None:
        sums = torch.cat([self.total, self.negentropy], 1)
        all_reduce(sums)
        self.total, self.negentropy = sums[:, :-1], sums[:, -1:]

    @property
    def scores(self) -> Tensor:
        """exp of the mean KL divergence of the samples' class probabilities from their mean, a split (splits,)."""
        counts = self.bounds.diff(prepend=self.bounds.new_zeros(1)).unsqueeze(1)
        marginal = self.total / counts
        divergence = self.negentropy / counts - torch.xlogy(marginal, marginal).sum(1, keepdim=True)
        return divergence.squeeze(1).exp()


class FeatureBank:
    """Keeps the features of every sample, float32 on the CPU; memory is 4 D bytes a sample.

    Args:
        num_features: Length D of a feature vector.
        device: Where metrics compare them.
    """

    def __init__(self, num_features: int, device: torch.device | str = 'cpu'):
        self.device = device
        # The empty first part stands for a process that gets no batch.
        nothing = torch.empty(0, dtype=torch.long)
        self._parts = [(torch.empty(0, num_features), nothing, nothing)]
        self.features, _, self.label = self._parts[0]

    def update(self, values: Tensor, index: Tensor, label: Tensor) -> None:
        self._parts.append((values.float().cpu(), index.cpu(), label.cpu()))

    def finish(self) -> None:
        """Gathers all processes' samples, in the order of their numbers, into ``features`` (N, D) and ``label`` (N,)."""
        features, index, label = (_gather(part) for part in self._join())
        order = index.argsort()
        self.features, self.label = features[order], label[order]

    def _join(self) -> list[Tensor]:
        parts, self._parts = self._parts, []
        return [torch.cat(column) for column in zip(*parts)]


class ClassFeatures(FeatureBank):
    """A feature bank whose samples stay with their processes: only one class at a time is brought together."""

    def finish(self) -> None:
        self.features, _, self.label = self._join()


def _gather(part: Tensor) -> Tensor:
    """The parts (N_i, ...) of all processes, one behind the other, on the CPU."""
    counts = [int(count) for count in all_gather(torch.tensor([len(part)]))]
    if len(counts) == 1:
        return part
    padded = part.new_zeros(max(counts), *part.shape[1:])
    padded[: len(part)] = part
    return torch.cat([other[:count].cpu() for other, count in zip(all_gather(padded), counts)])
