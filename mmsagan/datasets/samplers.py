"""In which order images come, such that any place in it is found at once: an interrupted training goes on where it was."""

from collections.abc import Iterator, Sequence, Sized
from itertools import count, islice

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import BatchSampler, Sampler

from mmsagan.errors import DataError
from mmsagan.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class InfiniteSampler(Sampler):
    """Indices without end: pass after pass over a data set, each in an order of its own, dealt out to the processes in turn.

    Takes the place of MMEngine's sampler of the same name. There, a pass's order follows from that of the one before, so that
    all before must be drawn again to go on from some place; here, it follows from the seed and the number of the pass.

    Args:
        dataset: The data set, of which only the length matters.
        shuffle: Whether the order is a random one.
        seed: Of the orders; None takes a random one, the same in all processes.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None):
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self._skipped = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        number, offset = divmod(self._skipped * self.world_size + self.rank, self.size)
        while True:
            own = self.order(number)[offset :: self.world_size]
            yield from own.tolist()
            offset += len(own) * self.world_size
            number, offset = number + offset // self.size, offset % self.size

    def order(self, number: int) -> torch.Tensor:
        """The indices (size,) in the order of a pass."""
        if not self.shuffle:
            return torch.arange(self.size)
        mixed = np.random.SeedSequence((self.seed, number)).generate_state(1, np.uint64)[0]
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(int(mixed >> np.uint64(1))))

    def skip(self, num_samples: int) -> None:
        """Has the next iteration begin behind so many of this process's indices, counted from the very first one."""
        self._skipped = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Without effect, as MMEngine's: there is one endless epoch."""


class NumberedBatch(list):
    """A batch's indices, which know what to seed the batch's random transforms with.

    Args:
        indices: Of the images.
        seed: Numbers that no other batch of the training has.
    """

    def __init__(self, indices: Sequence[int], seed: tuple[int, ...]):
        super().__init__(indices)
        self.seed = seed


@DATA_SAMPLERS.register_module()
class BatchStream(BatchSampler):
    """All batches of a training, numbered, from any sampler; a finite one is begun again when it ends.

    Args:
        sampler: Gives indices. One with ``skip(num_samples)``, as :class:`InfiniteSampler`, is put to a place at once; others
            are run through from the beginning of that pass on, which costs no images.
        batch_size: Images a batch.
        drop_last: Whether an incomplete batch at the end of a finite sampler is left out.
        seed: Of the batches' random transforms.

    Raises:
        DataError: The sampler gives no batch at all.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False, seed: int = 0):
        super().__init__(sampler, batch_size, drop_last)
        self.seed = seed
        self.rank, self.world_size = get_dist_info()
        self._start = 0

    def start_at(self, number: int) -> None:
        """Has the next iteration begin with the batch of this number, counted from 0."""
        self._start = number

    def __iter__(self) -> Iterator[NumberedBatch]:
        if hasattr(self.sampler, 'skip'):
            self.sampler.skip(self._start * self.batch_size)
            batches = self._passes(0)
        else:
            passes, rest = divmod(self._start, max(len(self), 1))
            batches = islice(self._passes(passes), rest, None)
        for number, indices in zip(count(self._start), batches):
            yield NumberedBatch(indices, (self.seed, self.rank, number))

    def _passes(self, first: int) -> Iterator[list[int]]:
        for epoch in count(first):
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            is_empty = True
            for indices in super().__iter__():
                is_empty = False
                yield indices
            if is_empty:
                raise DataError(
                    f'the data set gives no batch of batch_size={self.batch_size} to process {self.rank} of {self.world_size}: '
                    'it has too few images; choose a smaller batch, or drop_last=False'
                )
