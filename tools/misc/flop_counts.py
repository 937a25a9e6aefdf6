"""Counts FLOPs of networks and of updates on fake tensors, for get_flops.py and the benchmark."""

import math
from collections import Counter
from collections.abc import Callable, Mapping

import torch
from mmengine.optim import OptimWrapper
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from mmsagan.engine.config import config_errors
from mmsagan.registry import MODELS

aten = torch.ops.aten
# Operators that PyTorch's counter has no formulas for: the products of spectral norms, and attention on CPUs.
FORMULAS = {
    aten.mv: lambda matrix, *_, **__: 2 * math.prod(matrix),
    aten.dot: lambda vector, *_, **__: 2 * math.prod(vector),
    aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(
        g, q, k, v
    ),
}


def count_flops(action: Callable[[], object]) -> FlopCounterMode:
    """Counts the FLOPs of an action on fake tensors. Modules that it trains keep fake gradients."""
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        action()
    return counter


def build_gan(model: Mapping, fast: bool) -> nn.Module:
    """Builds a config's GAN, without what is not counted."""
    with config_errors():
        return MODELS.build({**model, 'ema_config': None, 'compile_cfg': None, 'fast': fast}).train()


def count_forward(gan: nn.Module, network: str, batch_size: int) -> dict[str, int]:
    """FLOPs of each module of a network in a forward pass in training mode, by the module's name."""

    def forward() -> None:
        size = gan.generator.output_scale
        inputs = gan.draw_noise(batch_size) if network == 'generator' else torch.empty(batch_size, 3, size, size)
        with torch.no_grad():
            getattr(gan, network)(inputs, label=gan.draw_label(batch_size))

    counts = count_flops(forward).get_flop_counts()
    return {name.partition('.')[2]: sum(of.values()) for name, of in counts.items() if name != 'Global'}


def count_updates(gan: nn.Module, batch_size: int) -> list[Counter]:
    """FLOPs by operator of one update of D and of one update of G, forward and backward."""
    disc, gen = (OptimWrapper(torch.optim.SGD(net.parameters(), lr=0.0)) for net in (gan.discriminator, gan.generator))

    def update_discriminator() -> None:
        images = torch.empty(batch_size, 3, *2 * [gan.generator.output_scale])
        gan.train_discriminator(images, torch.zeros(batch_size, dtype=torch.long), disc)

    updates = update_discriminator, lambda: gan.train_generator(batch_size, gen)
    return [Counter(count_flops(update).get_flop_counts()['Global']) for update in updates]
