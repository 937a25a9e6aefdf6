"""Self-attention alone: PyTorch's fused attention against the plain softmax, by the size of the feature map."""

import copy

import torch
from torch import Tensor

from mmsagan.analysis.benchmarks.sides import Setup
from mmsagan.analysis.flops import count_flops
from mmsagan.analysis.measuring import Action
from mmsagan.analysis.workloads import Workload
from mmsagan.models import SelfAttentionBlock

# 32 images with 64 channels: what D sees in an update at 128x128 with a batch of 16.
BATCH_SIZE, CHANNELS = 32, 64
SIZES = (16, 32, 64)


def attention_workload(size: int, precision: str, batch_size: int | None, setup: Setup) -> Workload:
    """Attention over a feature map, forward and backward, however the block would choose.

    Args:
        size: Height and width of the feature map.
        precision: Of both sides, so that they differ by the kernel alone.
        batch_size: Feature maps; None: :data:`BATCH_SIZE`.
        setup: What all measurements have in common.
    """
    batch_size = batch_size or BATCH_SIZE
    block = SelfAttentionBlock(CHANNELS).to(setup.device, memory_format=torch.channels_last)
    features = torch.randn(batch_size, CHANNELS, size, size, device=setup.device).contiguous(memory_format=torch.channels_last)
    counted = copy.deepcopy(block)
    return Workload(
        what='attention',
        config=f'feat{size}',
        precision=precision,
        fast=attention_pass(block, features, precision, fused=True),
        images=batch_size,
        flops=count_flops(attention_pass(counted, features, precision, fused=True)).total,
        reference=attention_pass(block, features, precision, fused=False) if setup.against_reference else None,
    )


def attention_pass(block: SelfAttentionBlock, features: Tensor, precision: str, fused: bool) -> Action:
    """Makes the action of a forward and a backward pass, with gradients of the features and of the weights."""

    def run() -> None:
        x = features.detach().requires_grad_()
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=precision == 'bf16'):
            attended = block.attend_fused(x) if fused else block.attend(x)
        attended.float().sum().backward()

    return run
