"""Full, broken and read-only disks while training."""

import errno
import os
import re
import resource
import signal
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from mmengine.visualization import LocalVisBackend

from mmsagan.apis import train_from_config
from mmsagan.apis.experiment import training_summary
from mmsagan.checkpoints.io import check_integrity
from mmsagan.engine.hooks import checkpoint
from mmsagan.errors import StorageError

FAULTS = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS]


@pytest.fixture
def run(tiny_run):
    """Makes the config of a training of four iterations with a checkpoint after each: run(**options)."""

    def make(linear=True, **options):
        options = {'default_hooks.checkpoint.interval': 1, 'custom_hooks': [], 'val_evaluator': None, **options}
        return tiny_run(linear=linear, **options)

    return make


@pytest.fixture
def fails(monkeypatch):
    """Lets the writing of checkpoints fail: fails({name: error number}); gives what was there when each one was written."""
    there: dict[str, set[str]] = {}

    def install(numbers: dict[str, int]):
        original = checkpoint.write_atomically

        def write(path, data):
            name = Path(path).name
            if name.endswith('.pth'):
                there[name] = {other.name for other in Path(path).parent.glob('*.pth')}
            if name in numbers:
                raise OSError(numbers[name], os.strerror(numbers[name]))
            original(path, data)

        monkeypatch.setattr(checkpoint, 'write_atomically', write)
        return there

    return install


def checkpoints(cfg) -> set[str]:
    return {path.name for path in Path(cfg.work_dir).glob('iter_*.pth')}


def log_of(cfg) -> str:
    return '\n'.join(path.read_text() for path in Path(cfg.work_dir).glob('*/*.log'))


def test_checkpoints_that_cannot_be_written(run, fails):
    cfg = run(max_iters=8)
    failing = dict(zip(('iter_2.pth', 'iter_3.pth', 'iter_5.pth', 'iter_6.pth'), FAULTS))
    fails(failing)
    train_from_config(cfg)
    assert checkpoints(cfg) == {'iter_1.pth', 'iter_4.pth', 'iter_7.pth', 'iter_8.pth'}
    log = log_of(cfg)
    for (name, number), last in zip(failing.items(), (1, 1, 4, 4)):
        assert f'{name} cannot be written: {os.strerror(number)}; the last good one is {cfg.work_dir}/iter_{last}.pth' in log
    assert Path(cfg.work_dir, 'last_checkpoint').read_text() == f'{cfg.work_dir}/iter_8.pth'


def test_a_pointer_that_cannot_be_written(run, monkeypatch):
    original = checkpoint.write_atomically
    calls = iter(range(100))

    def write(path, data):
        if Path(path).name == 'last_checkpoint' and next(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(path, data)

    monkeypatch.setattr(checkpoint, 'write_atomically', write)
    cfg = run()
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    train_from_config(cfg)
    assert checkpoints(cfg) == {'iter_4.pth'}
    assert 'last_checkpoint cannot be written: No space' in log_of(cfg)


def test_too_many_in_a_row(run, fails):
    cfg = run()
    cfg.default_hooks.checkpoint.max_failures = 2
    fails({'iter_2.pth': errno.ENOSPC, 'iter_3.pth': errno.ENOSPC})
    with pytest.raises(StorageError, match=r'iter_3\.pth .*max_failures=2.*iter_1'):
        train_from_config(cfg)
    assert checkpoints(cfg) == {'iter_1.pth'}
    assert Path(cfg.work_dir, 'last_checkpoint').read_text() == f'{cfg.work_dir}/iter_1.pth'


def test_a_limit_of_the_system(run):
    cfg = run(linear=False)
    cfg.default_hooks.checkpoint.max_failures = 10
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        train_from_config(cfg)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not checkpoints(cfg) and not list(Path(cfg.work_dir).glob('.*'))
    assert f'iter_4.pth cannot be written: {os.strerror(errno.EFBIG)}; there is none yet' in log_of(cfg)


def test_the_only_checkpoint_stays_until_the_next_is_written(run, fails):
    cfg = run()
    cfg.default_hooks.checkpoint.max_keep_ckpts = 1
    there = fails({'iter_3.pth': errno.EIO})
    train_from_config(cfg)
    assert there == {
        'iter_1.pth': set(),
        'iter_2.pth': {'iter_1.pth'},
        'iter_3.pth': {'iter_2.pth'},
        'iter_4.pth': {'iter_2.pth'},
    }
    assert checkpoints(cfg) == {'iter_4.pth'}
    check_integrity(Path(cfg.work_dir, 'iter_4.pth'))


def test_the_best_checkpoint_stays_until_the_next_is_written(run, fails, monkeypatch):
    cfg = run(**{'train_cfg.val_interval': 1})
    cfg.val_evaluator = dict(metrics=[dict(type='FrechetInceptionDistance', fake_nums=70, inception_style='digits')])
    scores = iter([4.0, 3.0, 2.0, 5.0])
    monkeypatch.setattr('mmsagan.evaluation.Evaluator.evaluate_model', lambda *_: {'FID-digits/fid': next(scores)})
    there = fails({'best_FID-digits_fid_iter_3.pth': errno.EIO})
    train_from_config(cfg)
    best = {path.name for path in Path(cfg.work_dir).glob('best_*')}
    assert best == {'best_FID-digits_fid_iter_2.pth'} and 'the best so far stays' in log_of(cfg)
    assert 'best_FID-digits_fid_iter_1.pth' in there['best_FID-digits_fid_iter_2.pth']


def test_pictures_and_a_log_that_cannot_be_written(run, monkeypatch):
    def fail(self, *args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalVisBackend, 'add_image', fail)
    monkeypatch.setattr(LocalVisBackend, '_dump', fail)
    cfg = run(custom_hooks=[dict(type='VisualizationHook', interval=2)])
    train_from_config(cfg)
    assert checkpoints(cfg) >= {'iter_4.pth'}
    assert 'the training continues: OSError: [Errno 28] No space left on device' in log_of(cfg)


def test_a_work_dir_that_is_not_utf8(run, tmp_path, capsys):
    """And has what means something to patterns, formats and URLs; its checkpoints are outside, in another such folder."""
    name = os.fsdecode(b'b\xff \xe9 50%d {x} [a]*#1:b?')
    for iterations, resume in ((2, False), (3, 'auto')):
        cfg = run(max_iters=iterations, custom_hooks=[dict(type='VisualizationHook', interval=2)], resume=resume)
        cfg.default_hooks.update(summary=dict(type='SummaryHook'))
        cfg.default_hooks.checkpoint.out_dir = str(tmp_path / os.fsdecode(b'\xff'))
        cfg.work_dir = str(tmp_path / name)
        runner = train_from_config(cfg)
    folder = Path(cfg.default_hooks.checkpoint.out_dir, name)
    assert {path.name for path in folder.glob('*.pth')} == {'iter_1.pth', 'iter_2.pth', 'iter_3.pth'}
    assert Path(cfg.work_dir, 'last_checkpoint').read_bytes() == os.fsencode(folder / 'iter_3.pth')
    page = Path(cfg.work_dir, 'summary.md').read_text()
    links = [os.fsdecode(unquote_to_bytes(link)) for link in re.findall(r'\]\(([^)]*)\)', page)]
    assert len(links) >= 3 and all(Path(cfg.work_dir, link).is_file() for link in links)
    assert f'{folder}/iter_3.pth' in training_summary(runner)
    assert 'resumed epoch: 0, iter: 2' in log_of(cfg) and 'Logging error' not in capsys.readouterr().err
