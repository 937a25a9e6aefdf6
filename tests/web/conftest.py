"""A work dir as training leaves it: two checkpoints of a small generator with two attention layers and a moving average."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from mmsagan.engine.config import load_config
from mmsagan.registry import MODELS

ROOT = Path(__file__).parent.parent.parent


class Experiment(NamedTuple):
    config: str
    folder: Path

    @property
    def checkpoint(self) -> str:
        return str(self.folder / 'iter_20.pth')


def write_experiment(folder: Path, num_classes: int = 10, attention: str = '[1, 2]') -> Experiment:
    leaf = ROOT / 'configs' / 'sagan' / 'sagan_32_woReLUinplace_cifar10_b64x1.py'
    config = folder / 'small.py'
    config.write_text(f"""
_base_ = {str(leaf)!r}
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
    return Experiment(str(config), folder)


@pytest.fixture(scope='session')
def experiment(tmp_path_factory) -> Experiment:
    """The small model, of CIFAR-10's classes."""
    return write_experiment(tmp_path_factory.mktemp('small'))


@pytest.fixture(scope='session')
def plain_experiment(tmp_path_factory) -> Experiment:
    """A model without classes and without attention."""
    return write_experiment(tmp_path_factory.mktemp('plain'), num_classes=0, attention='0')
