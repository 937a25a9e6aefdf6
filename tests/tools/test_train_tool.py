"""The training tool as a user types it."""

import subprocess
from pathlib import Path

import pytest
from launching import run_tool

ROOT = Path(__file__).parent.parent.parent
CONFIG = 'configs/sagan/sagan_32_woReLUinplace_cifar10_b64x1.py'

pytestmark = pytest.mark.slow


def run(*arguments, tool='tools/train.py', cwd=ROOT, **env) -> subprocess.CompletedProcess:
    return run_tool(Path(cwd) / tool, *arguments, cwd=cwd, **env)


def small(cifar_root, iterations=2) -> list[str]:
    return [
        '--cfg-options',
        f'train_dataloader.dataset.data_root={cifar_root}',
        f'train_cfg.max_iters={iterations}',
        'train_dataloader.batch_size=4',
        'train_dataloader.num_workers=1',
        'model.generator.base_channels=8',
        'model.discriminator.base_channels=8',
        'default_hooks.logger.interval=1',
    ]


def test_train_then_resume(tmp_path, cifar_root):
    first = run(CONFIG, '--work-dir', tmp_path, '--amp', '--tf32', 'off', '--auto-scale-lr', *small(cifar_root))
    assert first.returncode == 0, first.stderr
    assert f'checkpoint: {tmp_path}/iter_2.pth' in first.stdout and 'mixed precision: bfloat16' in first.stdout
    # Computed the plain way and in float32 from here on.
    second = run(CONFIG, '--work-dir', tmp_path, '--resume', *small(cifar_root, 4), 'model.fast=False')
    assert second.returncode == 0, second.stderr
    assert 'resumed epoch: 0, iter: 2' in second.stdout and 'trained to iteration 4' in second.stdout


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([CONFIG, '--cfg-options', 'train_dataloader.dataset.data_root=nowhere'], 'CIFAR-10 not found'),
        ([CONFIG, '--cfg-options', 'model.generator.typ=SAGANGenerator'], "did you mean 'type'"),
        (['configs/sagan/nothing.py'], 'nothing.py'),
        ([CONFIG, '--launcher', 'pytorch'], 'dist_train.sh'),
        ([CONFIG, '--resume', 'gone.pth'], 'gone.pth'),
    ],
)
def test_wrong_input_gives_one_message_and_leaves_nothing(tmp_path, cifar_root, arguments, message):
    if '--cfg-options' not in arguments:
        arguments = [*arguments, *small(cifar_root)]
    result = run(*arguments, '--work-dir', tmp_path / 'run')
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr
    assert result.stderr.splitlines()[-1].startswith('error: ') and message in result.stderr.splitlines()[-1]
    assert not (tmp_path / 'run').exists()


TOY = """
import torch
from mmsagan.registry import MODELS

@MODELS.register_module()
class ToyGenerator(torch.nn.Module):
    noise_size = 8
    output_scale = 32

    def __init__(self, num_classes, base_channels):
        super().__init__()
        self.embedding = torch.nn.Embedding(num_classes, 8)
        self.linear = torch.nn.Linear(8, 3 * 32 * 32)

    def forward(self, noise, label=None):
        return torch.tanh(self.linear(noise + self.embedding(label))).view(-1, 3, 32, 32)
"""


def test_a_component_of_another_package_by_custom_imports_alone(tmp_path, cifar_root):
    (tmp_path / 'toy_networks.py').write_text(TOY)
    (tmp_path / 'toy.py').write_text(f"""
_base_ = {str(ROOT / CONFIG)!r}
custom_imports = dict(imports=['toy_networks'])
model = dict(generator=dict(_delete_=True, type='ToyGenerator', base_channels=1))
""")
    result = run(tmp_path / 'toy.py', '--work-dir', tmp_path / 'run', *small(cifar_root), PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'run' / 'iter_2.pth').is_file()


def test_print_config():
    result = run(CONFIG, '--cfg-options', 'train_cfg.max_iters=7', tool='tools/misc/print_config.py')
    assert result.returncode == 0 and "type='SAGANGenerator'" in result.stdout and 'max_iters=7' in result.stdout
    result = run(CONFIG, '--cfg-options', 'model.generatr.x=7', tool='tools/misc/print_config.py')
    assert result.returncode == 2 and 'generatr' in result.stderr
    result = run('configs/sagan/sagan_32_cvt_studioGAN.py', tool='tools/misc/print_config.py')
    assert result.returncode == 0, 'a config for evaluation only is not checked as a training'


def test_an_option_without_a_value():
    result = run(CONFIG, '--cfg-options', 'train_cfg.max_iters')
    assert result.returncode == 2 and "expected KEY=VALUE, got 'train_cfg.max_iters'" in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_series_of_configs(tmp_path):
    """Two variants of the demo, trained for two iterations each, become a table and a picture."""
    for name in ('a', 'b'):
        (tmp_path / f'mnist_{name}_b4.py').write_text(f"_base_ = '{ROOT}/configs/sagan/sagan_32_mnist_b64x1.py'\n")
    configs = sorted(tmp_path.glob('*.py'))
    options = [
        'train_cfg.val_interval=2',
        'train_dataloader.batch_size=4',
        'model.generator.base_channels=8',
        'model.discriminator.base_channels=8',
        'val_evaluator.metrics.0.fake_nums=20',
        'val_evaluator.metrics.1.fake_nums=150',
    ]
    arguments = ['--work-dir', tmp_path / 'series', '--seeds', 5, '--max-iters', 2, '--jobs', 2, '--cfg-options', *options]
    result = run(*configs, *arguments, tool='tools/misc/run_series.py', OMP_NUM_THREADS='1')
    assert result.returncode == 0, result.stderr
    table = (tmp_path / 'series/table.md').read_text()
    assert table.startswith('| at iteration 2 | FID-digits/fid, seed 5 |\n|---|---:|\n| a | ') and table in result.stdout
    values = [float(line.split('|')[2]) for line in table.splitlines()[2:]]
    assert values[0] == values[1] > 0, 'the same config with the same seed'
    assert (tmp_path / 'series/curves.png').read_bytes().startswith(b'\x89PNG')
    result = run(configs[0], configs[0], '--work-dir', tmp_path / 'series', tool='tools/misc/run_series.py')
    assert result.returncode == 2 and 'error: two configs have the same name' in result.stderr
