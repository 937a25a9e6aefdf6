"""Batch normalization: plain, synchronized over processes, and conditional on the class."""

import torch
from mmengine.device import is_cuda_available
from mmengine.dist import is_distributed
from torch import Tensor, nn


def build_batch_norm(num_channels: int, eps: float = 1e-4, affine: bool = True, sync: bool = False) -> nn.Module:
    """A 2-d batch norm; with ``sync`` one over all processes, if there are several and they run on GPUs.

    ``torch.nn.SyncBatchNorm`` has no CPU kernel, so distributed training on CPUs uses each process's own statistics.
    """
    if sync and is_distributed() and is_cuda_available():
        return nn.SyncBatchNorm(num_channels, eps=eps, affine=affine)
    return nn.BatchNorm2d(num_channels, eps=eps, affine=affine)


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm whose scale and shift are looked up by class: (N, C, H, W), labels (N,) -> (N, C, H, W).

    With :class:`~mmsagan.models.layers.embedding.ClassEmbedding`, labels may be class weights (N, num_classes).

    Args:
        norm: The normalization, without affine parameters of its own.
        weight_embedding: (num_classes, C), the scale per class, less ``weight_offset``.
        bias_embedding: (num_classes, C), the shift per class.
        weight_offset: 1 where the embedding states the scale's deviation from 1 (init schemes ``studio`` and ``BigGAN``), 0
            where it states the scale itself (``SAGAN`` and ``SNGAN``, which start it at 1).
    """

    def __init__(
        self, norm: nn.Module, weight_embedding: nn.Embedding, bias_embedding: nn.Embedding, weight_offset: float = 1.0
    ):
        super().__init__()
        self.norm = norm
        self.weight_embedding = weight_embedding
        self.bias_embedding = bias_embedding
        self.weight_offset = weight_offset

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        weight = self.weight_offset + self.weight_embedding(label)
        bias = self.bias_embedding(label)
        return torch.addcmul(bias[:, :, None, None].to(x.dtype), self.norm(x), weight[:, :, None, None].to(x.dtype))
