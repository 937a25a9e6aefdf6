"""A hook for the configs of the tests here, which makes something happen in one iteration on some of the processes."""

import math
import os
import signal
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmsagan.errors import DataError
from mmsagan.registry import HOOKS

# What takes longer than all else here, and tests nothing.
Config.pretty_text = ''
Runner._log_env = lambda *_: None


@HOOKS.register_module()
class Trouble(Hook):
    """In an iteration, each process has a loss of NaN, raises an error, sleeps, or sends itself a signal; or none of it.

    Args:
        iteration: The iteration.
        kinds: For each rank 'nothing', 'nan', 'RuntimeError', 'DataError', 'sleep', or the name of a signal.
        notes: A file name, to which the rank is appended: for each iteration the tensors that it has changed, and the weights.
    """

    def __init__(self, iteration: int = 0, kinds: tuple = (), notes: str | None = None):
        self.iteration, self.kinds, self.path, self.notes = iteration, kinds, notes, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        gan = runner.model.module
        self.before = {name: value.clone() for name, value in gan.state_dict().items()}
        kind = self.kinds[runner.rank] if runner.iter + 1 == self.iteration else 'nothing'
        gan.gan_loss.__dict__.pop('discriminator_loss', None)
        if kind == 'nan':
            gan.gan_loss.discriminator_loss = lambda real, fake: (real.mean() * math.nan, fake.mean())
        elif kind == 'sleep':
            time.sleep(3)
        elif kind != 'nothing':
            os.write(2, f'\nfailing at {time.time()}\n'.encode())
            if kind == 'RuntimeError':
                raise RuntimeError('a bug')
            if kind == 'DataError':
                raise DataError('no data')
            os.kill(os.getpid(), signal.Signals[kind])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        state = runner.model.module.state_dict()
        self.notes.append(
            dict(
                changed=sorted(name for name, value in state.items() if not torch.equal(value, self.before[name])),
                skipped={name: wrapper.skipped for name, wrapper in runner.optim_wrapper.items()},
                finite=all(bool(value.isfinite().all()) for value in state.values()),
            )
        )

    def after_train(self, runner):
        if self.path is not None:
            state = runner.model.module.state_dict()
            weights = {name: value for name, value in state.items() if name.endswith(('weight_orig', 'bias', 'gamma'))}
            torch.save(dict(notes=self.notes, weights=weights), Path(f'{self.path}.{runner.rank}'))
