"""The order of the images and the random numbers of each batch, so that a training can resume exactly at any batch."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from mmengine.registry import DATASETS as ROOT_DATASETS
from torch.utils.data import BatchSampler, Dataset, Sampler, get_worker_info

from mmsagan.datasets.workers import loader_error
from mmsagan.errors import DataError
from mmsagan.registry import DATA_SAMPLERS, DATASETS
from mmsagan.utils.random_states import fork_rng


@DATA_SAMPLERS.register_module()
class InfiniteSampler(Sampler):
    """Endless indices: pass after pass over a data set, each in its own order, dealt out to the processes in turn.

    In MMEngine's sampler of the same name, the order of a pass follows from that of the previous one, so that resuming draws
    all previous ones again. Here, it follows from the ``seed``, by default a random one, and the number of the pass.
    """

    def __init__(self, dataset: Any, shuffle: bool = True, seed: int | None = None):
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.start = 0  # how many indices of this process, from the very first one on, the next iteration leaves out

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        epoch, offset = divmod(self.start * self.world_size + self.rank, self.size)
        while True:
            order = torch.arange(self.size)
            if self.shuffle:
                mixed = np.random.SeedSequence((self.seed, epoch)).generate_state(1, np.uint64)[0]
                order = torch.randperm(self.size, generator=torch.Generator().manual_seed(int(mixed >> np.uint64(1))))
            indices = order[offset :: self.world_size].tolist()
            yield from indices
            offset += len(indices) * self.world_size
            epoch, offset = epoch + offset // self.size, offset % self.size


class SeededBatch(list):
    """The indices of a batch, with the ``seed`` of its random transforms: numbers that no other batch of the training has."""

    seed: tuple[int, ...]


@DATA_SAMPLERS.register_module()
class BatchStream(BatchSampler):
    """All batches of a training, from any sampler. A finite one is started again when it ends.

    A sampler with an attribute ``start``, as :class:`InfiniteSampler` has it, jumps to the first batch; another one is iterated
    from the beginning of the pass, without reading images. ``seed`` is that of the random transforms.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False, seed: int = 0):
        super().__init__(sampler, batch_size, drop_last)
        self.seed = seed
        self.rank, self.world_size = get_dist_info()
        self.start = 0  # number of the batch that the next iteration begins with

    def __iter__(self) -> Iterator[SeededBatch]:
        number, first_epoch, to_skip = self.start, 0, 0
        if hasattr(self.sampler, 'start'):
            self.sampler.start = number * self.batch_size
        elif len(self):
            first_epoch, to_skip = divmod(number, len(self))
        else:
            remedy = 'choose a smaller one, or drop_last=False'
            raise DataError(f'too few images in process {self.rank} for batch_size={self.batch_size}; {remedy}')
        for epoch in count(first_epoch):
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            for indices in islice(super().__iter__(), to_skip, None):
                batch = SeededBatch(indices)
                batch.seed = (self.seed, self.rank, number)
                yield batch
                number += 1
            to_skip = 0


@DATASETS.register_module()
class SeededDataset(Dataset):
    """Wraps a data set, and has its attributes; the random transforms of each :class:`SeededBatch` draw from its own seed.

    So the images depend neither on the number of data loader processes nor on where a training was resumed.
    """

    def __init__(self, dataset: Dataset | dict, num_workers: int = 0):
        self.dataset = ROOT_DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if hasattr(self.dataset, 'full_init'):
            self.dataset.full_init()
        # What each process reads, for the main process to look at if one dies.
        self._reading = torch.full((num_workers,), -1)
        if num_workers:  # without processes, a small /dev/shm does not matter
            try:
                self._reading.share_memory_()
            except RuntimeError as error:
                raise loader_error(None, error, 'num_workers') or error from None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Any:
        """Returns a batch; PyTorch's data loader calls this method."""
        worker = get_worker_info()
        reading = self._reading[:0] if worker is None else self._reading[worker.id :][:1]
        with fork_rng(*indices.seed) if isinstance(indices, SeededBatch) else nullcontext():
            if hasattr(self.dataset, '__getitems__'):
                reading.fill_(indices[0])
                return self.dataset.__getitems__(indices)
            samples = []
            for index in indices:
                reading.fill_(index)
                samples.append(self.dataset[index])
            return samples

    def describe_last_read(self, worker: int) -> str:
        """Returns which image a data loader process turned to last: its file or its number."""
        index = int(self._reading[worker])
        if index < 0:
            return 'its first image'
        info = self.dataset.get_data_info(index) if hasattr(self.dataset, 'get_data_info') else {}
        return info.get('img_path') or f'image {index} of {getattr(self.dataset, "name", type(self.dataset).__name__)}'

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'dataset':  # copy and pickle look for them before there is a data set
            raise AttributeError(name)
        return getattr(self.dataset, name)
