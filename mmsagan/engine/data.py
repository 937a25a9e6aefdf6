"""The training's batches: numbered, seeded, and found again when a training is resumed."""

from collections.abc import Iterator
from typing import Any, cast

from mmengine.dist import get_world_size
from torch.utils.data import DataLoader

from mmsagan.datasets.samplers import BatchStream, SeededDataset
from mmsagan.datasets.workers import POLL, TIMEOUT, loader_error, next_batch, stop_workers
from mmsagan.errors import CheckpointError, ConfigError, DataError
from mmsagan.utils.random_states import fork_rng


def seeded_loader(config: dict, seed: int) -> dict:
    """Returns a data loader's config whose batches each have a number, and a seed for the random transforms."""
    config = dict(config)
    if config.pop('batch_sampler', None) is not None:
        raise ConfigError('train_dataloader.batch_sampler: GANTrainLoop has its own; set the sampler instead')
    config['dataset'] = dict(type=SeededDataset, dataset=config['dataset'], num_workers=config.get('num_workers', 0))
    config['batch_sampler'] = dict(type=BatchStream, drop_last=config.pop('drop_last', False), seed=seed)
    if config.get('num_workers', 0) > 0:
        config.setdefault('timeout', TIMEOUT)
    config.setdefault('worker_init_fn', dict(type='mmsagan.init_loader_process'))
    return config


class TrainingBatches:
    """The endless batches of a :func:`seeded_loader`, whose workers start when the first one is requested."""

    def __init__(self, loader: DataLoader):
        self.loader = loader
        self.timeout, loader.timeout = loader.timeout, min(loader.timeout, POLL)
        self.stream = cast(BatchStream, loader.batch_sampler)
        self.num_batches = 0  # so far, including those before the training was resumed
        self._iterator: Iterator | None = None

    def __next__(self) -> Any:
        if self._iterator is None:
            # PyTorch draws a seed for its workers, which an uninterrupted training would not draw here.
            with fork_rng(0):
                self._iterator = iter(self.loader)
        batch = next_batch(self._iterator, self.timeout, 'train_dataloader.timeout')
        self.num_batches += 1
        return batch

    def stop_workers(self) -> None:
        """Ends the loader's processes."""
        stop_workers(self._iterator)
        self._iterator = self.loader._iterator = None

    def state_dict(self) -> dict:
        """Returns the position in the data, for :meth:`load_state_dict`."""
        return dict(
            seed=self.stream.seed,
            sampler_seed=getattr(self.stream.sampler, 'seed', None),
            batch_size=self.stream.batch_size,
            samples=self.num_batches * self.stream.batch_size * get_world_size(),
        )

    def load_state_dict(self, state: dict) -> str | None:
        """Continues behind the images that a training with any batch size and any number of processes has seen.

        Returns why the next batches differ from those of an uninterrupted training; None if they do not.
        """
        seed, sampler_seed, batch_size, samples = (state.get(key) for key in ('seed', 'sampler_seed', 'batch_size', 'samples'))
        numbers = [seed, batch_size, samples, *([] if sampler_seed is None else [sampler_seed])]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise CheckpointError('the position in the training data is damaged')
        self.stream.seed = seed
        if sampler_seed is not None and hasattr(self.stream.sampler, 'seed'):
            self.stream.sampler.seed = sampler_seed
        self.num_batches = -(-samples // (self.stream.batch_size * get_world_size()))
        self.stream.start = self.num_batches
        if batch_size == self.stream.batch_size:
            return None
        return f'it had batches of {batch_size} images, and now they are of {self.stream.batch_size}'

    def explain(self, error: Exception) -> DataError | None:
        """Returns what an error of the loader's processes means, see ``loader_error``."""
        return loader_error(self._iterator, error, 'train_dataloader.num_workers')
