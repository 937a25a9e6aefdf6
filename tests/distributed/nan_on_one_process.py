"""Iterations on two processes, on one of which a loss is NaN; run by test_distributed.py.

Usage: torchrun --nproc-per-node 2 nan_on_one_process.py OUT
"""

import math
import sys

import torch
from mmengine.config import Config
from mmengine.model import MMSeparateDistributedDataParallel
from mmengine.optim import OptimWrapperDict

from mmsagan.engine.distributed import prepare_distributed
from mmsagan.engine.finite_steps import OptimWrapper
from mmsagan.registry import MODELS
from mmsagan.utils import register_all_modules


def main() -> None:
    register_all_modules()
    cfg = Config(dict(model_wrapper_cfg=dict()))
    prepare_distributed(cfg, 'pytorch')
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    network = dict(base_channels=8, num_classes=3)
    gan = MODELS.build(
        dict(
            type='SAGAN',
            generator=dict(type='SAGANGenerator', output_scale=32, noise_size=8, with_spectral_norm=True, **network),
            discriminator=dict(type='ProjDiscriminator', input_scale=32, **network),
            ema_config=dict(momentum=0.9),
        )
    )
    wrapped = MMSeparateDistributedDataParallel(gan, **cfg.model_wrapper_cfg)
    wrapped.train()
    torch.manual_seed(rank)
    names = ('generator', 'discriminator')
    optimizers = {name: OptimWrapper(torch.optim.Adam(getattr(gan, name).parameters(), lr=1e-3)) for name in names}
    data = dict(inputs=torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8), labels=torch.arange(4) % 3)
    plain_loss = gan.gan_loss.discriminator_loss
    results = []
    for number in range(3):
        before = {name: value.clone() for name, value in gan.state_dict().items()}
        factor = math.nan if (number, rank) == (1, 1) else 1.0
        gan.gan_loss.discriminator_loss = lambda *logits, factor=factor: [part * factor for part in plain_loss(*logits)]
        logs = wrapped.train_step(data, OptimWrapperDict(**optimizers))
        changed = sorted(name for name, value in gan.state_dict().items() if not torch.equal(value, before[name]))
        skips = {name: (wrapper.skipped, wrapper.skip_cause) for name, wrapper in optimizers.items()}
        finite = all(bool(value.isfinite().all()) for value in [*gan.state_dict().values(), *logs.values()])
        results.append(dict(changed=changed, skips=skips, finite=finite))
    state = {name: value for name, value in gan.state_dict().items() if name.endswith(('weight_orig', 'bias', 'gamma'))}
    torch.save(dict(results=results, state=state), f'{sys.argv[1]}.{rank}')


if __name__ == '__main__':
    main()
