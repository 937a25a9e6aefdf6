"""How many kernels a training step asks a device for: small networks are bound by their number on GPUs."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmsagan.engine.config import load_config
from mmsagan.engine.optim import MultiOptimWrapperConstructor
from mmsagan.registry import MODELS

CONFIGS = Path(__file__).parent.parent.parent / 'configs' / 'sagan'
# Operations that start no kernel: views, and memory without content.
NO_KERNELS = {
    *(
        'view',
        't',
        'transpose',
        'permute',
        'expand',
        'slice',
        'select',
        'unsqueeze',
        'squeeze',
        'as_strided',
        'detach',
        'alias',
    ),
    *('_unsafe_view', 'unbind', 'split', 'chunk', 'reshape', '_reshape_alias', 'split_with_sizes', 'lift_fresh', 'unfold'),
    *('diagonal', 'empty', 'empty_like', 'empty_strided', 'new_empty', 'resize_', 'set_', '_local_scalar_dense'),
}


class CountingMode(TorchDispatchMode):
    """Counts operations by name; one on a list of tensors counts once."""

    def __init__(self):
        super().__init__()
        self.counts: Counter = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'name, budget',
    [('sagan_32_woReLUinplace_cifar10_b64x1', 900), ('sagan_128_woReLUinplace_imagenet1k_b64x4', 1300)],
)
def test_a_step_of_both_networks_stays_within_its_budget(name, budget):
    cfg = load_config(CONFIGS / f'{name}.py')
    for network in (cfg.model.generator, cfg.model.discriminator):
        network.base_channels = 8  # as many layers, less to compute
    gan = MODELS.build(dict(cfg.model, num_classes=10, discriminator_steps=1))
    gan.init_weights()
    wrappers = MultiOptimWrapperConstructor({key: cfg.optim_wrapper[key] for key in ('generator', 'discriminator')})(
        gan.train()
    )
    size = gan.generator.output_scale
    batch = dict(inputs=torch.randint(256, (2, 3, size, size), dtype=torch.uint8), labels=torch.tensor([1, 2]))
    gan.train_step(batch, wrappers)
    with CountingMode() as mode:
        gan.train_step(batch, wrappers)
    kernels = sum(count for name, count in mode.counts.items() if name not in NO_KERNELS)
    print(f'{name}: {kernels} kernels, of which most are {mode.counts.most_common(12)}')
    assert kernels <= budget
