"""How much images differ from each other, pixel by pixel: cheap enough to be watched while training."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pair_distances(images: Tensor) -> Tensor:
    """The distances of all pairs of images: the root of the mean squared difference of their values.

    Args:
        images: (N, C, H, W), uint8.

    Returns:
        Distances (N (N - 1) / 2,), from 0 (the same image) to 1 (black and white).
    """
    pixels = _pixels(images)
    return torch.pdist(pixels) / pixels.shape[1] ** 0.5


def mean_distance(groups: Sequence[Tensor]) -> float:
    """The mean distance of the pairs within groups of images, each (N, C, H, W), uint8, N at least 2."""
    return float(torch.cat([pair_distances(images) for images in groups]).mean())


class RealPairs:
    """The mean distance of pairs of training images, of the same class and of any, from batches as they come.

    Every image is part of one pair at most. Images wait for a partner of their class, also beyond their batch, so that small
    batches and many classes give pairs, too.

    Args:
        num_pairs: So many pairs of the same class are enough.
        max_batches: After so many batches it has to do with those that there are.
        max_waiting: So many images are kept at most.
    """

    def __init__(self, num_pairs: int = 256, max_batches: int = 1000, max_waiting: int = 64):
        self.num_pairs = num_pairs
        self.max_batches = max_batches
        self.of_same_class = _Pairs(num_pairs, max_waiting)
        self.of_any_class = _Pairs(num_pairs, max_waiting)
        self._num_batches = 0

    @property
    def is_complete(self) -> bool:
        """Whether no more batches are needed."""
        return self.of_same_class.count >= self.num_pairs or self._num_batches >= self.max_batches

    def state_dict(self) -> dict:
        """What :meth:`load_state_dict` needs to go on with the pairs; without images, once there are enough."""
        pairs = dict(of_same_class=self.of_same_class, of_any_class=self.of_any_class)
        return dict(num_batches=self._num_batches, **{name: each.state_dict(self.is_complete) for name, each in pairs.items()})

    def load_state_dict(self, state: dict) -> None:
        """Goes on with the pairs of a :meth:`state_dict`."""
        self._num_batches = int(state['num_batches'])
        self.of_same_class.load_state_dict(state['of_same_class'])
        self.of_any_class.load_state_dict(state['of_any_class'])

    def add(self, images: Tensor | Sequence[Tensor], labels: Tensor | Sequence[int]) -> None:
        """Takes a batch: images (N, C, H, W), uint8, or a list of them, and their classes (N,)."""
        self._num_batches += 1
        labels = labels.tolist() if isinstance(labels, Tensor) else [int(label) for label in labels]
        self.of_same_class.add(images, labels)
        self.of_any_class.add(images, [0] * len(labels))


class _Pairs:
    """Pairs of images with equal labels; only their number and the sum of their distances are kept."""

    def __init__(self, num_pairs: int, max_waiting: int):
        self.num_pairs = num_pairs
        self.max_waiting = max_waiting
        self.count = 0
        self._sum = 0.0
        self._waiting: dict[int, Tensor] = {}

    @property
    def mean(self) -> float:
        return self._sum / self.count

    def state_dict(self, is_complete: bool) -> dict:
        waiting = {} if is_complete else {label: image.cpu() for label, image in self._waiting.items()}
        return dict(count=self.count, sum=self._sum, waiting=waiting)

    def load_state_dict(self, state: dict) -> None:
        self.count, self._sum = int(state['count']), float(state['sum'])
        self._waiting = {int(label): image.to(torch.uint8) for label, image in state['waiting'].items()}

    def add(self, images: Tensor | Sequence[Tensor], labels: list[int]) -> None:
        pairs: list[tuple[Tensor, Tensor]] = []
        for image, label in zip(images, labels):
            if self.count + len(pairs) >= self.num_pairs:
                break
            if label in self._waiting:
                pairs.append((self._waiting.pop(label).to(image.device), image))
            elif len(self._waiting) < self.max_waiting:
                self._waiting[label] = image.clone()  # not a view, which would keep the whole batch
        if pairs:
            first, second = (_pixels(torch.stack(side)) for side in zip(*pairs))
            self._sum += float((first - second).square().mean(1).sqrt().sum())
            self.count += len(pairs)


def _pixels(images: Tensor) -> Tensor:
    return images.flatten(1).float() / 255
