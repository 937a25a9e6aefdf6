"""Work dirs as training leaves them: two checkpoints of a small generator."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmsagan.engine.config import load_config
from mmsagan.registry import MODELS

LEAF = Path(__file__).parent.parent.parent / 'configs' / 'sagan' / 'sagan_32_woReLUinplace_cifar10_b64x1.py'


def write_experiment(folder: Path, num_classes: int, attention: str) -> SimpleNamespace:
    config = folder / 'small.py'
    config.write_text(f"""
_base_ = {str(LEAF)!r}
model = dict(
    num_classes={num_classes},
    generator=dict(base_channels=8, attention_after_nth_block={attention}),
    discriminator=dict(base_channels=8),
    ema_config=dict(momentum=0.9))
""")
    for iteration in (10, 20):
        torch.manual_seed(iteration)
        model = MODELS.build(load_config(config).model)
        for parameter in [*model.generator.parameters(), *model.generator_ema.parameters()]:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        model.iteration.fill_(iteration)
        torch.save(dict(state_dict=model.state_dict()), folder / f'iter_{iteration}.pth')
    (folder / 'last_checkpoint').write_text(str(folder / 'iter_20.pth'))
    return SimpleNamespace(config=str(config), folder=folder, checkpoint=str(folder / 'iter_20.pth'))


@pytest.fixture(scope='session')
def experiment(tmp_path_factory) -> SimpleNamespace:
    """A model with CIFAR-10's classes, two attention layers and a moving average."""
    return write_experiment(tmp_path_factory.mktemp('small'), 10, '[1, 2]')


@pytest.fixture(scope='session')
def plain_experiment(tmp_path_factory) -> SimpleNamespace:
    """An unconditional model without attention."""
    return write_experiment(tmp_path_factory.mktemp('plain'), 0, '0')
