"""Training in several processes on this machine, over gloo and loopback."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import torch
from launching import ROOT, free_port, run_tool, run_tools
from training_process import assert_same_training

from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.engine.config import load_config
from mmsagan.registry import MODELS

CONFIG = ROOT / 'configs' / 'sagan' / 'sagan_32_woReLUinplace_cifar10_b64x1.py'

pytestmark = pytest.mark.slow


def environment(folder: Path, **extra) -> dict:
    """For scripts, and for trainings whose configs import trouble.py."""
    python = f'{folder}:{Path(sys.executable).parent}:{os.environ["PATH"]}'
    path = f'{ROOT}:{Path(__file__).parent}'
    return dict(os.environ, PATH=python, PYTHONPATH=path, OMP_NUM_THREADS='1', **extra)


def train_options(work_dir, cifar_root, *more: str) -> list[str]:
    return [
        *('--work-dir', str(work_dir), '--cfg-options', f'train_dataloader.dataset.data_root={cifar_root}'),
        *('train_cfg.max_iters=3', 'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0'),
        *('model.generator.base_channels=8', 'model.discriminator.base_channels=8', 'model.discriminator_steps=2'),
        *('model.ema_config.momentum=0.9', 'default_hooks.logger.interval=1', *more),
    ]


def train(*arguments, processes: int, config=CONFIG, codes=(0,)) -> str:
    tool, path = ROOT / 'tools' / 'train.py', str(Path(__file__).parent)
    ends = run_tools(tool, config, *arguments, '--launcher', 'pytorch', processes=processes, PYTHONPATH=path)
    assert {end.returncode for end in ends} == set(codes), ends
    return ''.join(end.stdout + end.stderr for end in ends)


@pytest.fixture
def troubled(tmp_path) -> Path:
    path = tmp_path / 'config.py'
    text = f"_base_ = {str(CONFIG)!r}\ncustom_imports = dict(imports=['trouble'])\ncustom_hooks = [dict(type='Trouble')]\n"
    path.write_text(text)
    return path


def trouble(iteration: int, *kinds: str) -> list[str]:
    return [f'custom_hooks.0.iteration={iteration}', f'custom_hooks.0.kinds={list(kinds)}'.replace(' ', '')]


def assert_trained(work_dir, output: str, processes: int):
    """The checkpoint's keys do not show DDP, and load strictly into a model without it."""
    assert (work_dir / 'iter_3.pth').is_file(), output
    log = next(work_dir.glob('*/*.log')).read_text()
    assert f'GPU number: {processes}' in log and '[3/3]  loss D ' in log
    assert output.count('trained to iteration 3') == 1, 'one process speaks'
    state = load_checkpoint_file(work_dir / 'iter_3.pth')['state_dict']
    cfg = load_config(CONFIG, {'model.generator.base_channels': 8, 'model.discriminator.base_channels': 8})
    cfg.model.ema_config = dict(momentum=0.9)
    model = MODELS.build(cfg.model)
    model.load_state_dict(state)
    # The published runs' init scheme reached both networks through their wrappers: Adam has moved zero biases by little.
    assert all(bias.abs().max() < 0.01 for name, bias in model.discriminator.named_parameters() if name.endswith('.bias'))


def test_two_processes_give_the_gradient_of_one(tmp_path):
    for processes in (1, 2):
        ends = run_tools(Path(__file__).parent / 'discriminator_step.py', tmp_path / str(processes), processes=processes)
        assert [end.returncode for end in ends] == [0] * processes, ends
    one, *two = [torch.load(tmp_path / name) for name in ('1.0', '2.0', '2.1')]
    assert len(one) > 20 and max(value.abs().max() for value in one.values()) > 0.1
    for name, gradient in one.items():
        for other in two:
            torch.testing.assert_close(other[name], gradient, rtol=1e-5, atol=1e-5 * max(1, gradient.abs().max()))


def test_a_loss_that_is_nan_on_one_process(tmp_path, cifar_root, troubled):
    options = [*trouble(2, 'nothing', 'nan'), f'custom_hooks.0.notes={tmp_path}/out', 'model.discriminator_steps=1']
    train(*train_options(tmp_path / 'run', cifar_root, *options), config=troubled, processes=2)
    processes = [torch.load(tmp_path / f'out.{rank}') for rank in range(2)]
    for process in processes:
        notes = process['notes']
        assert [note['skipped'] for note in notes] == [dict(generator=0, discriminator=skipped) for skipped in (0, 1, 1)]
        assert all(note['finite'] for note in notes)
        trained = [
            any(name.startswith('discriminator') and not name.endswith(('_u', '_v')) for name in note['changed'])
            for note in notes
        ]
        assert trained == [True, False, True]
    one, two = (process['weights'] for process in processes)
    assert len(one) > 40 and all(torch.equal(one[name], two[name]) for name in one), 'the weights stay the same ones'


def test_exact_resume_on_two_processes(tmp_path, cifar_root, troubled):
    """Killed in iteration 4, resumed, told to stop in iteration 3, which all know one iteration later, and resumed."""

    def launch(name: str, *arguments: str, codes=(0,), options=()):
        options = ['train_cfg.max_iters=5', 'default_hooks.checkpoint.interval=2', *options]
        options = train_options(tmp_path / name, cifar_root, 'model.discriminator.freeze_blocks=1', *options)
        return train(*arguments, *options, config=troubled, processes=2, codes=codes)

    launch('whole')
    launch('broken', codes=(-signal.SIGKILL,), options=trouble(4, 'SIGKILL', 'SIGKILL'))
    assert not (tmp_path / 'broken' / 'iter_4.pth').exists()
    output = launch('broken', '--resume', codes=(75,), options=trouble(3, 'nothing', 'SIGTERM'))
    assert 'resumed epoch: 0, iter: 2' in output
    assert 'after iteration 4, saved to' in output and 'not, to the bit' not in output
    output = launch('broken', '--resume')
    assert 'resumed epoch: 0, iter: 4' in output, output
    assert_same_training(tmp_path / 'whole' / 'iter_5.pth', tmp_path / 'broken' / 'iter_5.pth')


def test_resuming_a_distributed_run(tmp_path, cifar_root, troubled):
    """On one process. With learning rate 0, resuming must leave the checkpoint's weights, whatever seed it starts from."""
    work_dir = tmp_path / 'run'
    for processes, arguments in ((2, ()), (1, ['--resume'])):
        options = ['optim_wrapper.generator.optimizer.lr=0', 'optim_wrapper.discriminator.optimizer.lr=0']
        options += [f'randomness.seed={processes}', f'train_cfg.max_iters={4 // processes}']
        train(*arguments, *train_options(work_dir, cifar_root, *options), config=troubled, processes=processes)
    before, after = (load_checkpoint_file(work_dir / f'iter_{i}.pth')['state_dict'] for i in (2, 4))
    names = [name for name in before if name.endswith(('.bias', '.weight_orig', '.gamma')) and 'ema' not in name]
    assert len(names) > 40 and all(torch.equal(before[name], after[name]) for name in names)
    log = max(work_dir.glob('*/*.log'), key=lambda path: path.stat().st_mtime).read_text()
    assert 'not, to the bit, the one that was interrupted: it ran on 2 processes, and this one runs on 1' in log


def test_evaluation_while_training_on_two_processes(tmp_path, cifar_root):
    """Each process has batch statistics of its own; the scores are of the first one's, which the checkpoint has, too."""
    options = train_options(tmp_path / 'run', cifar_root)
    for mode in ('val', 'test'):
        metrics = "[{'type': 'FrechetInceptionDistance', 'fake_nums': 70, 'inception_style': 'digits'}]"
        options += [f'{mode}_evaluator.metrics={metrics}', f'{mode}_evaluator.inception_pkl={tmp_path}/{mode}.pkl']
    options += ['train_cfg.val_interval=3']
    trained = train(*options, processes=2)
    options[options.index('--work-dir') + 1] = str(tmp_path / 'test')
    tested = run_tool(ROOT / 'tools' / 'test.py', CONFIG, tmp_path / 'run' / 'iter_3.pth', *options)
    assert tested.returncode == 0, tested.stderr
    scores = [re.search(r'FID-digits/fid +([0-9.]+)$', said, re.M).group(1) for said in (trained, tested.stdout)]
    assert scores[0] == scores[1]


# A process waits for another one for 1800 s; torchrun kills those that have not ended 30 s after one has failed.
PROMPTLY = 60


def environment_of(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors='replace')
    except OSError:  # has ended, or is another user's
        return ''


@pytest.mark.parametrize('kinds', [('nothing', 'RuntimeError'), ('SIGKILL', 'sleep'), ('DataError', 'sleep')])
def test_a_dead_process_ends_all_with_its_message(tmp_path, cifar_root, troubled, kinds):
    """While another one waits for it in a collective, or is far from any. Of the data loaders nothing is left, either."""
    options = train_options(tmp_path / 'run', cifar_root, 'train_dataloader.num_workers=1', *trouble(2, *kinds))
    command = ['bash', str(ROOT / 'tools' / 'dist_train.sh'), str(troubled), '2', *options]
    with ExitStack() as stack:
        with suppress(OSError):  # torchrun's usual port is taken, by this test or somebody else
            stack.enter_context(socket.create_server(('127.0.0.1', 29500)))
        result = subprocess.run(command, env=environment(tmp_path), capture_output=True, text=True, timeout=240)
    said = result.stdout + result.stderr
    assert result.returncode == 1, said
    limit = float(re.search(r'failing at ([0-9.]+)', said)[1]) + PROMPTLY
    while left := [path for path in Path('/proc').glob('[0-9]*/environ') if f'{tmp_path}:' in environment_of(path)]:
        assert time.time() < limit, left
        time.sleep(0.1)
    assert time.time() < limit
    said, _, report = said.partition('Root Cause')
    if 'RuntimeError' in kinds:
        assert "raise RuntimeError('a bug')" in said and re.search(r'rank +: 1 (.|\n)*RuntimeError: a bug', report)
        assert 'gloo' not in said, 'no traceback of the other process'
    elif 'SIGKILL' in kinds:
        assert re.search(r'rank +: 0 (.|\n)*Signal 9 \(SIGKILL\)', report)
    else:
        assert said.count('error: no data\n') == 1 and 'DataError' not in said, 'one message and no traceback'
        assert re.search(r'rank +: 0 (.|\n)*exitcode +: 2 ', report)


@pytest.mark.parametrize('tool, arguments', [('train', ['c.py']), ('test', ['c.py', 'm.pth']), ('sample', ['c.py', 'm.pth'])])
def test_several_nodes(tmp_path, tool, arguments):
    (tmp_path / 'python').write_text('#!/usr/bin/env bash\necho "$@"\n')
    (tmp_path / 'python').chmod(stat.S_IRWXU)
    env = environment(tmp_path, NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='29501')
    command = ['bash', str(ROOT / 'tools' / f'dist_{tool}.sh'), *arguments, '8', '--out', 'a b']
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()
    for option in ('--nnodes=2', '--node_rank=1', '--master_addr=10.0.0.1', '--master_port=29501', '--nproc_per_node=8'):
        assert option in said
    assert said.endswith(f'/tools/{tool}.py {" ".join(arguments)} --out a b --launcher pytorch')


# Stands in for SLURM: starts the tasks on this machine with the variables that srun sets.
SRUN = """#!/usr/bin/env bash
for argument in "$@"; do case $argument in --ntasks=*) NTASKS=${argument#*=};; esac; done
while [ "$1" != python ]; do shift; done
for RANK in $(seq 0 $((NTASKS - 1))); do
    SLURM_PROCID=$RANK SLURM_LOCALID=$RANK SLURM_NTASKS=$NTASKS SLURM_NODELIST=node[1] "$@" &
done
wait -n && wait
"""


def test_slurm_train(tmp_path, cifar_root):
    for name, text in (('srun', SRUN), ('scontrol', '#!/usr/bin/env bash\necho 127.0.0.1\n')):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(stat.S_IRWXU)
    command = ['bash', str(ROOT / 'tools' / 'slurm_train.sh'), 'debug', 'test', str(CONFIG), '2']
    command += train_options(tmp_path / 'run', cifar_root)
    env = environment(tmp_path, GPUS_PER_NODE='0', PORT=free_port())
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert_trained(tmp_path / 'run', result.stdout, processes=2)
