"""Taking back what a skipped update has left in the networks' buffers."""

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn


class BufferKeeper:
    """Remembers a network's buffers, and puts them back.

    These are the batch norms' running statistics and the spectral norms' singular vectors, which a forward pass changes in
    training mode. A NaN would stay in them for ever.

    Args:
        network: The network. Its modules are looked up once, their buffers every time.
    """

    def __init__(self, network: nn.Module):
        self._places = [(module, name) for module in network.modules() for name, _ in module.named_buffers(recurse=False)]
        self._kept: list[Tensor] = []

    @torch.no_grad()
    def keep(self) -> None:
        """Remembers the buffers as they are."""
        buffers = self._buffers()
        if not self._kept:
            self._kept = [torch.empty_like(buffer) for buffer in buffers]
        _copy(self._kept, buffers)

    @torch.no_grad()
    def put_back(self) -> None:
        """Sets the buffers to what was remembered last."""
        _copy(self._buffers(), self._kept)

    def _buffers(self) -> list[Tensor]:
        return [getattr(module, name) for module, name in self._places]


def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    # One kernel copies many tensors of the same type.
    for dtype in {target.dtype for target in targets}:
        pairs = [(target, source) for target, source in zip(targets, sources) if target.dtype == dtype]
        torch._foreach_copy_([target for target, _ in pairs], [source for _, source in pairs])


def skips_updates(optim_wrapper: OptimWrapper) -> bool:
    """Whether an optimizer wrapper skips updates that are not finite, as MMSAGAN's do and MMEngine's do not."""
    return hasattr(optim_wrapper, 'skip_cause')


def was_skipped(optim_wrapper: OptimWrapper) -> bool:
    """Whether its newest update was skipped."""
    return getattr(optim_wrapper, 'skip_cause', None) is not None
