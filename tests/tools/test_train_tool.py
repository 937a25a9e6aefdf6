"""The training tool as a user types it."""

from pathlib import Path

import pytest
from launching import ROOT, run_tool

CONFIG = 'configs/sagan/sagan_32_woReLUinplace_cifar10_b64x1.py'

pytestmark = pytest.mark.slow


def run(*arguments, tool='train.py', **env):
    return run_tool(ROOT / 'tools' / tool, *arguments, **env)


def small(cifar_root, iterations=2) -> list[str]:
    return [
        *('--cfg-options', f'train_dataloader.dataset.data_root={cifar_root}', f'train_cfg.max_iters={iterations}'),
        *('train_dataloader.batch_size=4', 'train_dataloader.num_workers=1', 'default_hooks.logger.interval=1'),
        *('model.generator.base_channels=8', 'model.discriminator.base_channels=8'),
    ]


def test_train_then_resume(tmp_path, cifar_root):
    """With a component of another package, named by ``custom_imports`` alone."""
    (tmp_path / 'my_losses.py').write_text(
        'from mmsagan.models import HingeGANLoss\nfrom mmsagan.registry import MODELS\n\n\n'
        '@MODELS.register_module()\nclass MyLoss(HingeGANLoss):\n    pass\n'
    )
    (tmp_path / 'mine.py').write_text(
        f"_base_ = {str(ROOT / CONFIG)!r}\ncustom_imports = dict(imports=['my_losses'])\n"
        "model = dict(gan_loss=dict(type='MyLoss'))\n"
    )
    options, mine = ['--work-dir', tmp_path / 'run'], tmp_path / 'mine.py'
    turned_on = ['--amp', '--tf32', 'off', '--auto-scale-lr']
    first = run(mine, *options, *turned_on, *small(cifar_root), PYTHONPATH=str(tmp_path))
    assert first.returncode == 0, first.stderr
    assert f'checkpoint: {tmp_path}/run/iter_2.pth' in first.stdout and 'mixed precision: bfloat16' in first.stdout
    # Computed the plain way and in float32 from here on, without evaluations.
    second = run(
        mine, *options, '--resume', '--no-validate', *small(cifar_root, 4), 'model.fast=False', PYTHONPATH=str(tmp_path)
    )
    assert second.returncode == 0, second.stderr
    assert 'resumed epoch: 0, iter: 2' in second.stdout and 'trained to iteration 4' in second.stdout


@pytest.mark.parametrize(
    'arguments, key',
    [
        (['configs/sagan/nothing.py'], 'nothing.py'),
        ([CONFIG, '--launcher', 'pytorch'], 'dist_train.sh'),
        ([CONFIG, '--resume', 'gone.pth'], 'gone.pth'),
    ],
)
def test_wrong_input_gives_one_message_and_leaves_nothing(tmp_path, cifar_root, arguments, key):
    result = run(*arguments, *small(cifar_root), '--work-dir', tmp_path / 'run')
    assert result.returncode == 2
    assert 'Traceback' not in result.stderr
    assert result.stderr.splitlines()[-1].startswith('error: ') and key in result.stderr.splitlines()[-1]
    assert not Path(tmp_path / 'run').exists()


def test_print_config():
    result = run(CONFIG, '--cfg-options', 'train_cfg.max_iters=7', tool='misc/print_config.py')
    assert result.returncode == 0 and "type='SAGANGenerator'" in result.stdout and 'max_iters=7' in result.stdout
    result = run(CONFIG, '--cfg-options', 'model.generatr.x=7', tool='misc/print_config.py')
    assert result.returncode == 2 and 'generatr' in result.stderr
    result = run('configs/sagan/sagan_32_cvt_studioGAN.py', tool='misc/print_config.py')
    assert result.returncode == 0, 'a config for evaluation only is not checked as a training'


def test_a_series_of_configs(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / f'mnist_{name}_b4.py').write_text(f"_base_ = '{ROOT}/configs/sagan/sagan_32_mnist_b64x1.py'\n")
    configs = sorted(tmp_path.glob('*.py'))
    options = ['train_cfg.val_interval=2', 'train_dataloader.batch_size=4', 'val_evaluator.metrics.0.fake_nums=20']
    options += [
        'model.generator.base_channels=8',
        'model.discriminator.base_channels=8',
        'val_evaluator.metrics.1.fake_nums=150',
    ]
    arguments = ['--work-dir', tmp_path / 'series', '--seeds', 5, '--max-iters', 2, '--jobs', 2, '--cfg-options', *options]
    result = run(*configs, *arguments, tool='misc/run_series.py', OMP_NUM_THREADS='1')
    assert result.returncode == 0, result.stderr
    table = (tmp_path / 'series/table.md').read_text()
    assert table.startswith('| at iteration 2 | FID-digits/fid, seed 5 |\n|---|---:|\n| a | ') and table in result.stdout
    values = [float(line.split('|')[2]) for line in table.splitlines()[2:]]
    assert values[0] == values[1] > 0, 'the same config with the same seed'
    assert (tmp_path / 'series/curves.png').read_bytes().startswith(b'\x89PNG')
