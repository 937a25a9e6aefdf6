"""Batches that are on the GPU before they are asked for."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol

import torch
from mmengine.runner import Runner
from torch import Tensor

from mmsagan.models.gan import unwrap


class Copier(Protocol):
    """Copies batches in the background."""

    def start(self, batch: Any) -> Any:
        """Begins to copy a batch, and gives the copy, whose content may not be there yet."""

    def wait(self, copy: Any) -> None:
        """Makes what is computed from now on wait for the copy's content."""


class CudaCopier:
    """Copies batches to a GPU in a CUDA stream of its own. From pinned memory, that goes on while the GPU computes.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.stream = torch.cuda.Stream(device)

    def start(self, batch: Any) -> Any:
        with torch.cuda.stream(self.stream):
            return map_tensors(lambda tensor: tensor.to(self.device, non_blocking=True), batch)

    def wait(self, copy: Any) -> None:
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self.stream)
        # Their memory belongs to the other stream, which would give it away while this one still computes with it.
        map_tensors(lambda tensor: tensor.record_stream(current), copy)


class PrefetchedBatches:
    """An iterator over batches that begins to copy the next one before it hands out the current one.

    It is one batch ahead of the training. A resumed training counts the batches that were trained on, not those that were
    fetched, and so finds its place all the same. Whatever else MMEngine asks of its iterator, such as ``skip_iter``, is asked
    of ``batches``.

    Args:
        batches: The iterator to read from.
        copier: Copies batches.
    """

    def __init__(self, batches: Iterator, copier: Copier):
        self.batches = batches
        self.copier = copier
        self._copies: list = []  # the batch that is being copied, if there is one

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> Any:
        if not self._copies:
            self._start_next()
        batch = self._copies.pop()
        self.copier.wait(batch)
        with suppress(StopIteration):
            self._start_next()
        return batch

    def _start_next(self) -> None:
        self._copies.append(self.copier.start(next(self.batches)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)


def prefetch_to_gpu(runner: Runner) -> None:
    """Has a runner's training batches copied to the GPU ahead of time; without a GPU or pinned memory, leaves it as it is.

    Args:
        runner: With its training loop built.
    """
    loop = runner.train_loop
    device = unwrap(runner.model).data_preprocessor.device
    if device.type == 'cuda' and hasattr(loop, 'dataloader_iterator') and loop.dataloader.pin_memory:
        loop.dataloader_iterator = PrefetchedBatches(loop.dataloader_iterator, CudaCopier(device))


def map_tensors(function: Callable[[Tensor], Any], batch: Any) -> Any:
    """Applies a function to all tensors of nested dicts, lists and tuples; leaves whatever else is in them."""
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, Mapping):
        return {key: map_tensors(function, value) for key, value in batch.items()}
    if isinstance(batch, (list, tuple)):
        return [map_tensors(function, value) for value in batch]
    return batch
