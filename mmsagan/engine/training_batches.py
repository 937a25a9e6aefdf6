"""The batches of a training: numbered, seeded, and found again after an interruption."""

import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from mmengine.dist import get_rank, get_world_size
from torch.utils.data import DataLoader

from mmsagan.datasets.samplers import BatchStream, SeededDataset
from mmsagan.errors import CheckpointError, DataError
from mmsagan.registry import FUNCTIONS
from mmsagan.utils.random_states import fork_rng

_SECONDS_FOR_WORD = 5  # of a loader process's death


def seeded_loader(config: dict, seed: int) -> dict:
    """The config of a data loader whose batches have a number and a seed each, see :class:`TrainingBatches`.

    Args:
        config: Of the loader, for MMEngine. One with a ``batch_sampler`` or ``worker_init_fn`` of its own keeps it.
        seed: Of the random transforms.
    """
    config = dict(config)
    config['dataset'] = dict(type=SeededDataset, dataset=config['dataset'], num_workers=config.get('num_workers', 0))
    if config.get('batch_sampler') is None:
        config['batch_sampler'] = dict(type=BatchStream, drop_last=config.pop('drop_last', False), seed=seed)
    if 'worker_init_fn' not in config:
        quiet = config.pop('disable_subprocess_warning', False)
        config['worker_init_fn'] = dict(type='mmsagan.init_loader_process', quiet=quiet)
    return config


@FUNCTIONS.register_module()
def init_loader_process(worker_id: int, quiet: bool = False) -> None:
    """Leaves it to the main process what to do about signals: Ctrl-C and SLURM send them to all processes at once.

    Of several SIGTERMs the second one counts, since the main process ends by it those that do not end when told to.

    Args:
        worker_id: Number of this loader process.
        quiet: Whether all but the first loader process keep their warnings to themselves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
    if quiet and worker_id:
        warnings.simplefilter('ignore')


class TrainingBatches:
    """An endless iterator over a data loader's batches, which starts when the first one is asked for.

    Args:
        loader: Made from a :func:`seeded_loader` config. With a batch sampler that is no
            :class:`~mmsagan.datasets.samplers.BatchStream`, batches begin anew when they end, and no place can be found again.
        seed: Of what the loader processes draw for such batches.
    """

    def __init__(self, loader: DataLoader, seed: int):
        self.loader = loader
        self.stream = loader.batch_sampler if isinstance(loader.batch_sampler, BatchStream) else None
        self._seed = seed
        self._beginnings = 0
        self._iterator: Iterator | None = None

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        if self._iterator is None:
            self._begin()
        batch = next(self._iterator, None)
        if batch is None:
            self._begin()
            batch = next(self._iterator)
        return batch

    def _begin(self) -> None:
        # PyTorch draws a number for its loader processes, which an uninterrupted training does not draw in between.
        with fork_rng(self._seed, get_rank(), self._beginnings):
            self._iterator = iter(self.loader)
        self._beginnings += 1

    # ------------------------------------------------------------------------------------------- the place in the stream

    def state(self, num_batches: int) -> dict:
        """What :meth:`go_on` needs, after ``num_batches`` batches of each process."""
        if self.stream is None:
            return {}
        batch_size = self.stream.batch_size
        return dict(
            seed=self.stream.seed,
            sampler_seed=getattr(self.stream.sampler, 'seed', None),
            batch_size=batch_size,
            samples=num_batches * batch_size * get_world_size(),
        )

    def go_on(self, state: dict) -> tuple[int, str | None]:
        """Goes on behind the images that a state counts.

        Args:
            state: See :meth:`state`; of a training with any batch size and number of processes.

        Returns:
            The number of the next batch, and why its images are not those of an uninterrupted training, if they are not.

        Raises:
            CheckpointError: The state is none.
        """
        if self.stream is None:
            return 0, f'a {type(self.loader.batch_sampler).__name__} cannot be put to a place: its batches begin anew'
        seed, sampler_seed, batch_size, samples = (state.get(key) for key in ('seed', 'sampler_seed', 'batch_size', 'samples'))
        numbers = [seed, batch_size, samples, *([] if sampler_seed is None else [sampler_seed])]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise CheckpointError('the place in the training data is damaged')
        self.stream.seed = seed
        sampler = self.stream.sampler
        if sampler_seed is not None and hasattr(sampler, 'seed'):
            sampler.seed = sampler_seed
        number, rest = divmod(samples, self.stream.batch_size * get_world_size())
        number += bool(rest)
        self.stream.start_at(number)
        if batch_size == self.stream.batch_size:
            return number, None
        return number, f'its batches were of {batch_size} images, and these are of {self.stream.batch_size}'

    # ------------------------------------------------------------------------------------------------- loader processes

    def death(self, is_likely: bool = False) -> DataError | None:
        """What to tell the user if a loader process has died; None if none has.

        Args:
            is_likely: Whether a batch ended while it was handed over, so that word of a death is worth waiting for.
        """
        workers = getattr(self._iterator, '_workers', ())
        end = time.monotonic() + (_SECONDS_FOR_WORD if is_likely else 0)
        with suppress(RuntimeError):  # PyTorch's, which its signal handler raises wherever this process is
            while time.monotonic() < end and not any(process.exitcode for process in workers):
                time.sleep(0.05)
        for number, process in enumerate(workers):
            if process.exitcode:
                return DataError(
                    f'a data loader process has died ({_how(process.exitcode)}) while reading '
                    f'{self.loader.dataset.describe_last_read(number)}; '
                    'if other programs can read it, memory may have run out: try a smaller train_dataloader.num_workers'
                )
        return None


def _how(exitcode: int) -> str:
    return f'signal {signal.Signals(-exitcode).name}' if exitcode < 0 else f'exit code {exitcode}'
