"""Resuming and stopping, step by step; whole trainings are interrupted in tests/robustness."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
import torch
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from PIL import Image

from mmsagan.apis import train_from_config
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.datasets.workers import init_loader_process
from mmsagan.engine.data import TrainingBatches
from mmsagan.engine.loops import Interrupted, StopSignals
from mmsagan.errors import CheckpointError, ConfigError, DataError, StorageError, TrainingInterrupted
from mmsagan.registry import HOOKS, TRANSFORMS

HOLD = """
import sys
from mmsagan.utils.files import lock_folder
with lock_folder(sys.argv[1]):
    print('held', flush=True)
    sys.stdin.read()
"""
METRICS = dict(metrics=[dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits')])


@pytest.fixture
def run(tiny_run):
    """Makes the config of a short training of one-layer networks: run(max_iters=4, linear=True, **options)."""

    def make(linear=True, **options):
        options = {'default_hooks.checkpoint.interval': 2, 'custom_hooks': [], 'val_evaluator': None, **options}
        return tiny_run(linear=linear, **options)

    return make


@pytest.fixture
def shared_checkpoint(run, tmp_path_factory) -> Path:
    path = tmp_path_factory.getbasetemp() / 'shared' / 'iter_2.pth'
    if not path.is_file():
        cfg = run(max_iters=2)
        train_from_config(cfg)
        path.parent.mkdir()
        Path(cfg.work_dir, path.name).rename(path)
        shutil.rmtree(cfg.work_dir)
    return path


def resumed(cfg, **values):
    cfg.merge_from_dict(dict(resume=True, **{key.replace('__', '.'): value for key, value in values.items()}))
    cfg.experiment_name += '-resumed'
    return cfg


def log_of(cfg) -> str:
    return '\n'.join(path.read_text() for path in sorted(Path(cfg.work_dir).glob('*/*.log')))


def evaluated_at(cfg) -> list[int]:
    files = sorted(Path(cfg.work_dir).glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    return [line['step'] for line in lines if 'FID-digits/fid' in line]


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends SIGTERM in the first iteration, or in the first batch of the evaluation after iteration ``evaluation``."""

    def __init__(self, evaluation: int = 0):
        self.evaluation = evaluation

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.evaluation and batch_idx == 0:
            signal.raise_signal(signal.SIGTERM)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not self.evaluation:
            signal.raise_signal(signal.SIGTERM)


def test_an_evaluation_that_was_broken_off_is_done_again(run):
    options = {'train_cfg.val_interval': 2, 'val_evaluator': METRICS, 'val_dataloader.batch_size': 10}
    stop = dict(custom_hooks=[dict(type='SignalHook', evaluation=2)])
    for cfg in (run(**stop, **options), resumed(run(**stop, **options))):
        with pytest.raises(TrainingInterrupted, match=r'stopped by SIGTERM after iteration 2, saved to .*iter_2\.pth'):
            train_from_config(cfg)
    assert evaluated_at(cfg) == [] and log_of(cfg).count('the evaluation is interrupted') == 2
    last = resumed(run(custom_hooks=[dict(type='SignalHook', evaluation=4)], **options))
    with pytest.raises(TrainingInterrupted, match='after iteration 4'):
        train_from_config(last)
    assert evaluated_at(cfg) == [2]
    train_from_config(resumed(run(**options)))
    assert evaluated_at(cfg) == [2, 4]
    # The last one is done and noted: going on from there evaluates at the new end only.
    train_from_config(resumed(run(max_iters=6, **options)))
    assert evaluated_at(cfg) == [2, 4, 6]


@pytest.mark.parametrize(
    'change, reason',
    [
        (lambda state: state.update(random_states=state['random_states'] * 2), 'it ran on 2 processes, and this one runs on 1'),
        (lambda state: state.clear(), 'the checkpoint has no states of random number generators'),
    ],
)
def test_a_state_that_cannot_be_continued_to_the_bit(run, shared_checkpoint, change, reason):
    checkpoint = load_checkpoint_file(shared_checkpoint)
    state = checkpoint['training_state']
    assert state['data']['samples'] == 2 * 4 and len(state['random_states']) == 1
    change(state)
    cfg = run(max_iters=3)
    path = Path(cfg.work_dir).with_name('changed.pth')
    torch.save(checkpoint, path)
    cfg.update(resume=True, load_from=str(path))
    runner = train_from_config(cfg)
    assert runner.train_loop.state_dict()['data']['samples'] == 3 * 4
    assert 'is not, to the bit, the one that was interrupted: ' + reason in log_of(cfg)


def test_another_batch_size_goes_on_behind_the_same_images(run):
    cfg = run()
    train_from_config(cfg)
    runner = train_from_config(resumed(run(max_iters=5), train_dataloader__batch_size=6))
    # 16 images are two whole batches of 6 and a part of the third.
    assert runner.train_loop.state_dict()['data']['samples'] == 6 * 4
    assert 'it had batches of 4 images, and now they are of 6' in log_of(cfg)
    # One that divides the number of images is no exact continuation either.
    train_from_config(resumed(run(max_iters=6), train_dataloader__batch_size=2))
    assert 'it had batches of 6 images, and now they are of 2' in log_of(cfg)


@pytest.mark.parametrize(
    'damage',
    [
        lambda content: content['training_state'].update(data=dict(seed='x', samples=3)),
        lambda content: content['training_state']['data'].update(sampler_seed=-1),
        lambda content: content.update(training_state=[1]),
        lambda content: content['training_state']['random_states'][0].update(torch=torch.zeros(3)),
        lambda content: content['meta'].pop('iter'),
        lambda content: content['meta'].update(iter=-5),
        lambda content: content.pop('message_hub'),
        lambda content: content['optimizer'].pop('generator'),
        lambda content: content['optimizer']['generator']['param_groups'][0]['params'].pop(),
    ],
)
def test_a_damaged_state(run, damage, shared_checkpoint):
    cfg = run(max_iters=6)
    content = load_checkpoint_file(shared_checkpoint)
    damage(content)
    path = Path(cfg.work_dir).with_name('damaged.pth')
    torch.save(content, path)
    cfg.update(resume=True, load_from=str(path))
    with pytest.raises(CheckpointError, match=r'damaged\.pth'):
        train_from_config(cfg)


@TRANSFORMS.register_module()
class DieOf(BaseTransform):
    """Kills the process that reads a certain image, as a decoder's fault or a lack of memory would."""

    def __init__(self, name: str):
        self.name = name

    def transform(self, results):
        if results['img_path'].endswith(self.name):
            os.kill(os.getpid(), signal.SIGKILL)
        return results


def test_a_loader_process_that_dies_names_the_file(run, tmp_path):
    for number in range(20):
        path = tmp_path / 'images' / str(number % 10) / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 32)).save(path)
    cfg = run()
    pipeline = [dict(type='LoadImageFromFile'), dict(type='DieOf', name='13.png'), dict(type='PackInputs')]
    cfg.train_dataloader.dataset = dict(type='ImageFolder', data_root=str(tmp_path / 'images'), pipeline=pipeline)
    cfg.train_dataloader.num_workers = 2
    with pytest.raises(DataError, match=r'died \(signal SIGKILL\) while reading .*images/3/13\.png'):
        train_from_config(cfg)


def test_a_loader_process_that_dies_while_it_hands_over_a_batch(run, monkeypatch):
    """The connection ends before there is word of the process's death."""

    def broken(batches):
        batches._iterator = iter(batches.loader)
        threading.Timer(0.3, os.kill, (batches._iterator._workers[0].pid, signal.SIGKILL)).start()
        raise EOFError

    monkeypatch.setattr(TrainingBatches, '__next__', broken)
    cfg = run()
    cfg.train_dataloader.num_workers = 1
    with pytest.raises(DataError, match=r'died \(signal SIGKILL\)'):
        train_from_config(cfg)


def test_a_finite_sampler(run):
    options = {'train_dataloader.sampler': dict(type='DefaultSampler', shuffle=True), 'train_dataloader.batch_size': 40}
    full = run(**options)
    train_from_config(full)
    expected = load_checkpoint_file(Path(full.work_dir, 'iter_4.pth'))['state_dict']
    Path(full.work_dir, 'iter_4.pth').unlink()
    train_from_config(resumed(run(**options)))
    found = load_checkpoint_file(Path(full.work_dir, 'iter_4.pth'))['state_dict']
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_the_log_is_bounded(run, monkeypatch):
    monkeypatch.setattr('mmsagan.engine.loops.LOG_LENGTH', 60)
    cfg = run(max_iters=70, **{'train_dataloader.batch_size': 2, 'default_hooks.checkpoint.interval': 100})
    runner = train_from_config(cfg)
    lengths = {name: len(buffer.data[0]) for name, buffer in runner.message_hub.log_scalars.items() if 'loss_disc' in name}
    assert lengths and set(lengths.values()) == {60}


def test_resuming_a_training_that_starts_from_other_weights(run):
    """A script always says --resume: its first job has nothing to resume from, and starts from the weights in ``load_from``."""
    first = run(max_iters=1)
    first.work_dir += '_first'
    train_from_config(first)
    before = load_checkpoint_file(Path(first.work_dir, 'iter_1.pth'))['state_dict']
    options = {f'optim_wrapper.{network}.optimizer.lr': 0 for network in ('generator', 'discriminator')}
    cfg = run(max_iters=2, **options)
    cfg.update(resume='auto', load_from=str(Path(first.work_dir, 'iter_1.pth')))
    train_from_config(cfg)
    after = load_checkpoint_file(Path(cfg.work_dir, 'iter_2.pth'))['state_dict']
    assert all(torch.equal(before[name], after[name]) for name in before if name.endswith('linear.weight'))
    again = run(max_iters=3, **options)
    again.update(resume='auto', load_from='a file that is no longer there')
    assert train_from_config(again).iter == 3
    assert 'resumed epoch: 0, iter: 2' in log_of(cfg)


def test_an_adaptive_augmentation_resumes_between_two_changes(run):
    """Of the probability, to the bit: after two of three iterations, half of the images have counted."""
    options, ends = {'model.augment': dict(type='ADA', interval=3, images=20, target=-1.5)}, []
    whole = run(max_iters=4, **options)
    ends.append(train_from_config(whole).model.state_dict())
    again = resumed(run(max_iters=4, **options), load_from=str(Path(whole.work_dir, 'iter_2.pth')))
    again.work_dir += '_again'
    ends.append(train_from_config(again).model.state_dict())
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    assert ends[0]['augment.signs'][1] == 4 and ends[0]['augment.p'] == torch.tensor(12 / 20)
    lines = [json.loads(line) for line in next(Path(again.work_dir).glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert [line['ada_p'] for line in lines] == pytest.approx([0.6, 0.6])


def test_a_stop_that_cannot_be_saved(run, monkeypatch):
    def fail(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr('mmsagan.engine.hooks.checkpoint.write_atomically', fail)
    cfg = run(custom_hooks=[dict(type='SignalHook')])
    with pytest.raises(StorageError, match='stopped by SIGTERM after iteration 1, which cannot be saved'):
        train_from_config(cfg)
    assert 'No space left' in log_of(cfg)


def test_the_pointer_of_checkpoints_elsewhere(run, tmp_path):
    """MMEngine writes it to the work dir. A shorter run after a longer one goes on with its own checkpoints."""
    options = {'default_hooks.checkpoint.out_dir': str(tmp_path / 'elsewhere')}
    train_from_config(run(max_iters=4, **options))
    train_from_config(run(max_iters=2, **options))
    cfg = resumed(run(max_iters=3, **options))
    train_from_config(cfg)
    assert 'resumed epoch: 0, iter: 2' in log_of(cfg)


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in StopSignals.SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


def test_the_signals():
    assert {number.name for number in StopSignals.SIGNALS} == {'SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'}


@pytest.mark.parametrize('number', StopSignals.SIGNALS)
def test_a_signal_is_noted_within_the_block_only(handlers, number, capfd):
    signal.signal(number, signal.SIG_DFL)
    with StopSignals() as signals:
        assert not signals.received_by_any_process()
        signal.raise_signal(number)
        assert signals.received_by_any_process() and signals.received == number.name
    assert 'once more ends the training at once' in capfd.readouterr().err
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize(
    'number, torchrun, noted',
    [
        (signal.SIGHUP, False, False),
        (signal.SIGUSR1, False, False),
        (signal.SIGHUP, True, True),
        (signal.SIGTERM, False, True),
    ],
)
def test_an_ignored_signal(handlers, monkeypatch, number, torchrun, noted):
    """nohup ignores SIGHUP; torchrun ends its processes on it all the same."""
    if torchrun:
        monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    signal.signal(number, signal.SIG_IGN)
    with StopSignals() as signals:
        signal.raise_signal(number)
    assert signals.received == (number.name if noted else None)
    assert signal.getsignal(number) is signal.SIG_IGN


def test_a_signal_ends_a_wait_even_if_it_came_before(handlers):
    with StopSignals() as signals:
        with pytest.raises(Interrupted), signals.interrupting(True):
            signal.raise_signal(signal.SIGTERM)
            pytest.fail('goes on')
        with signals.interrupting(False):
            pass
        with pytest.raises(Interrupted), signals.interrupting(True):
            pytest.fail('goes on')


def test_a_terminal_that_is_gone(handlers):
    """Nothing that is printed later fails."""
    before = os.dup(2)
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 2)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGTERM)
        os.write(2, b'more')
        assert signals.received == 'SIGTERM'
    finally:
        os.dup2(before, 2)


def test_loader_processes_leave_signals_to_the_main_one(handlers, monkeypatch):
    """Sent to all of them at once, as terminals do, the first one changes nothing; the main process ends them itself."""
    monkeypatch.setattr('multiprocessing.queues.Queue._on_queue_feeder_error', None)
    init_loader_process(0)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2) * 2:
        signal.raise_signal(number)
    signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_batch_sampler_of_ones_own_is_refused(run):
    with pytest.raises(ConfigError, match=r'train_dataloader\.batch_sampler'):
        train_from_config(run(**{'train_dataloader.batch_sampler': dict(type='BatchSampler', drop_last=True)}))


def test_two_trainings_in_one_folder(run, tmp_path):
    """The second one ends before it writes anything; an evaluation is no training."""
    cfg = run(max_iters=1)
    folder = Path(cfg.work_dir)
    held = subprocess.Popen([sys.executable, '-c', HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert held.stdout.readline() == 'held\n'
        with pytest.raises(ConfigError, match=rf'{folder} .*process {held.pid} on .*--work-dir'):
            train_from_config(cfg)
        assert {path.name for path in folder.iterdir()} == {'training.lock'}
        assert {path.name for path in tmp_path.iterdir()} == {'run'}
    finally:
        held.kill()
        held.wait()
    train_from_config(cfg)


@TRANSFORMS.register_module()
class Trouble(BaseTransform):
    """With the second batch: reads for ever, raises an error, or the process cannot hand over what it has read."""

    def __init__(self, kind: str):
        self.kind = kind

    def transform(self, results):
        if results['img_path'].endswith('13.png'):
            if self.kind == 'hang':
                open(os.environ['FIFO'])
            if self.kind == 'raise':
                raise ArithmeticError
            if self.kind.startswith('unable'):
                ForkingPickler.dumps = self.fail
        return results

    def fail(self, batch):
        raise RuntimeError(self.kind)


@HOOKS.register_module()
class LaterSignalHook(Hook):
    """Sends SIGTERM half a second after the first iteration."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()


@pytest.fixture
def trouble(run, tmp_path, monkeypatch):
    """Trains into trouble: trouble(kind, num_workers, **options). All loader processes must end."""
    os.mkfifo(tmp_path / 'fifo')
    monkeypatch.setenv('FIFO', str(tmp_path / 'fifo'))
    for number in range(20):
        path = tmp_path / 'images' / str(number % 10) / f'{number:02}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (32, 32)).save(path)
    before = set(multiprocessing.active_children())

    def train(kind: str, num_workers: int = 2, **options):
        options = {'train_dataloader.sampler.shuffle': False, 'default_hooks.checkpoint.interval': 100, **options}
        cfg = run(max_iters=20, **options)
        pipeline = [dict(type='LoadImageFromFile'), dict(type='Trouble', kind=kind), dict(type='PackInputs')]
        cfg.train_dataloader.dataset = dict(type='ImageFolder', data_root=str(tmp_path / 'images'), pipeline=pipeline)
        cfg.train_dataloader.update(num_workers=num_workers, persistent_workers=num_workers > 0)
        try:
            train_from_config(cfg)
        finally:
            assert set(multiprocessing.active_children()) <= before

    return train


@pytest.mark.parametrize(
    'kind, error, message',
    [
        ('raise', ArithmeticError, ''),
        (
            'unable to write to file </torch_1_2_3>: No space left on device (28)',
            DataError,
            '/dev/shm.*--shm-size.*num_workers=0',
        ),
        ('unable to mmap 9 bytes from file </torch_1_2_3>: Cannot allocate memory (12)', DataError, '/dev/shm'),
        ('unable to open shared memory object </torch_1>: Too many open files (24)', DataError, 'ulimit -n.*num_workers'),
    ],
)
def test_errors_in_loader_processes(trouble, kind, error, message):
    with pytest.raises(error, match=message):
        trouble(kind)


@pytest.mark.parametrize('number, message', [(errno.ENOSPC, '/dev/shm.*--shm-size'), (errno.EMFILE, 'ulimit -n')])
def test_loader_processes_that_cannot_be_started(trouble, monkeypatch, number, message):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr('torch.utils.data.DataLoader._get_iterator', fail)
    with pytest.raises(DataError, match=message):
        trouble('none')


@pytest.mark.slow
def test_a_read_that_does_not_return_is_named(trouble):
    with pytest.raises(DataError, match=r'13\.png.*train_dataloader\.timeout'):
        trouble('hang', **{'train_dataloader.timeout': 5})


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_signal_ends_the_wait_for_a_batch(trouble, tmp_path, num_workers):
    with pytest.raises(TrainingInterrupted, match='stopped by SIGTERM after iteration 1'):
        trouble('hang', num_workers, custom_hooks=[dict(type='LaterSignalHook')])
    state = load_checkpoint_file(tmp_path / 'run' / 'iter_1.pth')['training_state']
    assert state['data']['samples'] == 4


@HOOKS.register_module()
class MoveHook(Hook):
    """Moves a folder away after the first iteration."""

    def __init__(self, folder: str):
        self.folder = folder

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if os.path.isdir(self.folder):
            os.rename(self.folder, self.folder + '_moved')


@pytest.mark.parametrize('num_workers', [0, 2])
def test_data_that_are_moved_away(trouble, tmp_path, num_workers):
    """The state of the last iteration is saved before the error ends the training, and can be resumed."""
    options = {'train_dataloader.prefetch_factor': 1} if num_workers else {}
    with pytest.raises(DataError):
        trouble('none', num_workers, custom_hooks=[dict(type='MoveHook', folder=str(tmp_path / 'images'))], **options)
    (last,) = (tmp_path / 'run').glob('iter_*.pth')
    content = load_checkpoint_file(last)
    assert content['training_state']['data']['samples'] == 4 * content['meta']['iter'] > 0


def test_an_evaluation_that_fails(run, monkeypatch):
    """The state is saved, beside the last one that may be better."""

    def fail(*_):
        raise DataError('gone')

    monkeypatch.setattr('mmsagan.evaluation.Evaluator.evaluate_model', fail)
    monkeypatch.setattr('mmsagan.evaluation.Evaluator.prepare', lambda *_: None)
    cfg = run(val_evaluator=METRICS, **{'train_cfg.val_interval': 3, 'default_hooks.checkpoint.max_keep_ckpts': 1})
    with pytest.raises(DataError, match='gone'):
        train_from_config(cfg)
    assert {path.name for path in Path(cfg.work_dir).glob('*.pth')} == {'iter_2.pth', 'iter_3.pth'}
