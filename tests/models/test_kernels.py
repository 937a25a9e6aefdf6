"""How many kernels a training step asks a device for: small networks are bound by their number on GPUs."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mmsagan.apis import train_from_config
from mmsagan.engine.config import load_config
from mmsagan.engine.loops import GANTrainLoop
from mmsagan.engine.optim import MultiOptimWrapperConstructor
from mmsagan.models.layers.spectral_norm import STACKED_UP_TO
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

    def kernels(self, name: str) -> int:
        kernels = sum(count for name, count in self.counts.items() if name not in NO_KERNELS)
        print(f'{name}: {kernels} kernels, of which most are {self.counts.most_common(12)}')
        return kernels


@pytest.mark.parametrize(
    'name, budget',
    [('sagan_32_woReLUinplace_cifar10_b64x1', 790), ('sagan_128_woReLUinplace_imagenet1k_b64x4', 1215)],
)
def test_a_step_of_both_networks_stays_within_its_budget(name, budget, monkeypatch):
    monkeypatch.setitem(STACKED_UP_TO, 'cpu', STACKED_UP_TO['cuda'])
    cfg = load_config(CONFIGS / f'{name}.py')
    gan = MODELS.build(dict(cfg.model, discriminator_steps=1))
    gan.init_weights()
    wrappers = MultiOptimWrapperConstructor({key: cfg.optim_wrapper[key] for key in ('generator', 'discriminator')})(
        gan.train()
    )
    size = gan.generator.output_scale
    batch = dict(inputs=torch.randint(256, (2, 3, size, size), dtype=torch.uint8), labels=torch.tensor([1, 2]))
    gan.train_step(batch, wrappers)
    with CountingMode() as mode:
        gan.train_step(batch, wrappers)
    assert mode.kernels(name) <= budget and not mode.counts['_local_scalar_dense']


def test_an_iteration_waits_for_no_device(tmp_path, monkeypatch):
    """The demo's, with all hooks and clipped gradients; between two iterations that are logged, evaluated or saved."""
    options = {'work_dir': str(tmp_path), 'train_dataloader.batch_size': 2, 'train_cfg.max_iters': 3, 'val_evaluator': None}
    options |= {'optim_wrapper.clip_grad': dict(max_norm=1e9), 'optim_wrapper.dtype': 'bfloat16', 'custom_hooks': []}
    cfg = load_config(CONFIGS / 'sagan_32_mnist_b32x1.py', options)
    modes, run_iter = [], GANTrainLoop.run_iter

    def counted(loop, batch):
        with CountingMode() as mode:
            run_iter(loop, batch)
        modes.append(mode)

    monkeypatch.setattr(GANTrainLoop, 'run_iter', counted)
    train_from_config(cfg)
    assert modes[1].kernels('demo') <= 1120  # weights of many shapes share fewer products
    assert not modes[1].counts['_local_scalar_dense'], 'a value was read from the device'
