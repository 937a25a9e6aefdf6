"""Trainings in processes of their own, which tests kill, signal and resume."""

import os
import signal
import sys
import time
from pathlib import Path

from launching import ROOT, fork_server

CONFIG = ROOT / 'configs' / 'sagan' / 'sagan_32_mnist_b32x1.py'
SMALL = {
    'train_cfg.max_iters': 12,
    'train_cfg.val_interval': 100,
    'train_dataloader.batch_size': 4,
    'model.generator.base_channels': 8,
    'model.discriminator.base_channels': 8,
    'model.discriminator_steps': 2,
    'default_hooks.checkpoint.interval': 2,
    'default_hooks.checkpoint.max_keep_ckpts': -1,
    'default_hooks.logger.interval': 1,
    'log_processor.window_size': 1,
    'custom_hooks': [dict(type='VisualizationHook', interval=8, vis_kwargs_list=dict(type='GAN', name='grid'))],
    'val_evaluator': None,
}


class TrainingProcess:
    """A training that reports 'iteration', 'fsync' (before one) and 'replaced' (after one); its output goes to ``output.txt``.

    Args:
        wait_after: Number of the event, from 1, after which the training waits to be killed.
        sleep_in: An iteration that does not come to its end.
        **options: Config values, dots written as two underscores, besides :data:`SMALL`.
    """

    def __init__(self, work_dir: Path, resume=False, wait_after: int | None = None, sleep_in: int | None = None, **options):
        context = fork_server()
        self.events, child = context.Pipe(duplex=False)
        values = {**SMALL, **{key.replace('__', '.'): value for key, value in options.items()}}
        arguments = (str(work_dir), values, resume, child, wait_after, sleep_in)
        self.process = context.Process(target=_train, args=arguments)
        self.process.start()
        child.close()

    def wait_for(self, wanted: str, count: int = 1) -> bool:
        """Waits until an event has come ``count`` times; False if the training ends before."""
        while count:
            event = self.next_event()
            if event is None:
                return False
            count -= event == wanted
        return True

    def next_event(self) -> str | None:
        """Waits for the next event, 'waiting' if it is the last one before a kill; None if the training ends before."""
        try:
            return self.events.recv()
        except EOFError:
            return None

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def end(self, timeout: float = 120) -> int:
        """Waits for the end; gives the exit code, negative for the signal that ended it."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, 'the training hangs'
        return self.process.exitcode


def _train(work_dir: str, options: dict, resume: bool, events, wait_after: int | None, sleep_in: int | None) -> None:
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    output = os.open(Path(work_dir, 'output.txt'), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.environ['MMSAGAN_KEEP_MEMORY'] = '0'
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    import torch
    from mmengine.config import Config
    from mmengine.runner import Runner

    from mmsagan.apis.experiment import train_from_config
    from mmsagan.cli.tool import run_tool
    from mmsagan.engine.config import load_config
    from mmsagan.engine.loops import GANTrainLoop

    torch.set_num_threads(1)
    # What takes longer than all else here, and tests nothing.
    Config.pretty_text = ''
    Runner._log_env = lambda *_: None
    seen = 0

    def tell(event: str) -> None:
        nonlocal seen
        seen += 1
        events.send(event)
        if seen == wait_after:
            events.send('waiting')
            signal.pause()

    fsync, replace, run_iter = os.fsync, os.replace, GANTrainLoop.run_iter
    os.fsync = lambda file: (tell('fsync'), fsync(file))[1]
    os.replace = lambda *paths: (replace(*paths), tell('replaced'))[0]

    def told_run_iter(loop, batch) -> None:
        if sleep_in is not None and loop.iter + 1 == sleep_in:
            events.send('asleep')
            time.sleep(600)
        run_iter(loop, batch)
        tell('iteration')

    GANTrainLoop.run_iter = told_run_iter
    config = load_config(CONFIG, options)
    config.update(work_dir=work_dir, launcher='none', resume=resume)
    config.default_hooks.pop('summary')
    sys.argv = ['train.py']
    run_tool(lambda: train_from_config(config) and None)


def assert_same_training(first: Path, second: Path) -> None:
    """Two checkpoints hold the same weights, averages, optimizers, random states, place in the data, and log, to the bit."""
    from mmsagan.checkpoints import load_checkpoint_file

    one, two = load_checkpoint_file(first), load_checkpoint_file(second)
    assert one['meta']['iter'] == two['meta']['iter'] and {'state_dict', 'optimizer', 'training_state'} <= one.keys()
    logs = [content.pop('message_hub')['log_scalars'] for content in (one, two)]
    names = [name for name in logs[0] if 'time' not in name]
    assert len(names) >= 6 and logs[0].keys() == logs[1].keys()
    for name in names:
        assert_equal(logs[0][name].data[0], logs[1][name].data[0], name)
    for content in (one, two):
        del content['meta']
    assert_equal(one, two, 'checkpoint')


def assert_equal(one, two, name: str) -> None:
    """Nested values are equal, NaN to NaN."""
    import numpy as np
    import torch

    assert type(one) is type(two), name
    if isinstance(one, dict):
        assert one.keys() == two.keys(), name
        for key in one:
            assert_equal(one[key], two[key], f'{name}.{key}')
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), name
        for number, pair in enumerate(zip(one, two)):
            assert_equal(*pair, f'{name}[{number}]')
    elif isinstance(one, (torch.Tensor, np.ndarray)):
        assert one.dtype == two.dtype and np.array_equal(np.asarray(one), np.asarray(two), equal_nan=True), name
    else:
        assert one == two, name
