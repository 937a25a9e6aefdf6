"""Two processes, on one of which a loss is NaN; run by test_distributed.py.

Usage: torchrun --nproc-per-node 2 nan_on_one_process.py FOLDER
"""

import math
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsagan.engine.distributed import prepare_distributed
from mmsagan.models.losses import HingeGANLoss
from mmsagan.registry import HOOKS, MODELS
from mmsagan.utils import register_all_modules


@MODELS.register_module()
class SpoiltLoss(HingeGANLoss):
    """D's loss is NaN when told so."""

    factor = 1.0

    def discriminator_loss(self, real_logits, fake_logits):
        real, fake = super().discriminator_loss(real_logits, fake_logits)
        return real * self.factor, fake


@HOOKS.register_module()
class SpoilingHook(Hook):
    """Spoils iteration 2 on the second process; notes which tensors of the model each iteration has changed."""

    def __init__(self):
        self.notes = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        gan = runner.model.module
        gan.gan_loss.factor = math.nan if runner.rank == 1 and runner.iter == 1 else 1.0
        self.before = {name: value.clone() for name, value in gan.state_dict().items()}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        state = runner.model.module.state_dict()
        self.notes.append(
            dict(
                changed=sorted(name for name, value in state.items() if not torch.equal(value, self.before[name])),
                skipped={name: wrapper.skipped for name, wrapper in runner.optim_wrapper.items()},
                finite=all(bool(value.isfinite().all()) for value in [*state.values(), *outputs.values()]),
            )
        )


def main() -> None:
    register_all_modules()
    cfg = Config(dict(model_wrapper_cfg=dict(type='MMSeparateDistributedDataParallel')))
    prepare_distributed(cfg, 'pytorch')
    adam = dict(optimizer=dict(type='Adam', lr=1e-3))
    runner = Runner(
        model=dict(
            type='SAGAN',
            num_classes=10,
            generator=dict(type='SAGANGenerator', output_scale=32, noise_size=8, base_channels=8, with_spectral_norm=True),
            discriminator=dict(type='ProjDiscriminator', input_scale=32, base_channels=8),
            gan_loss=dict(type='SpoiltLoss'),
        ),
        work_dir=str(Path(sys.argv[1], 'run')),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=dict(type='EmbeddedMNIST', image_size=32, pipeline=[dict(type='PackInputs')]),
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='mmsagan.collate_batch'),
        ),
        train_cfg=dict(type='GANTrainLoop', max_iters=3),
        optim_wrapper=dict(constructor='MultiOptimWrapperConstructor', generator=adam, discriminator=adam),
        default_hooks=dict(checkpoint=None, spoiling=dict(type='SpoilingHook')),
        launcher='pytorch',
        default_scope='mmsagan',
        randomness=dict(seed=2022, diff_rank_seed=True),
        cfg=cfg,
    )
    runner.train()
    state = runner.model.module.state_dict()
    weights = {name: value for name, value in state.items() if name.endswith(('weight_orig', 'bias', 'gamma'))}
    notes = next(hook.notes for hook in runner.hooks if isinstance(hook, SpoilingHook))
    torch.save(dict(notes=notes, weights=weights), Path(sys.argv[1], f'out.{runner.rank}'))


if __name__ == '__main__':
    main()
