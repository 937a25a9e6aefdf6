import argparse

import pytest
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from mmsagan.apis import cli
from mmsagan.apis.cli import CfgOptions, message_of, run_tool, tool_parser
from mmsagan.errors import DataError, TrainingInterrupted


class Broken(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise DataError('the file x.png: cannot be read')


@pytest.mark.parametrize('num_workers', [0, 1])
def test_the_message_is_the_same_from_a_loader_process(num_workers):
    with pytest.raises(DataError) as info:
        next(iter(DataLoader(Broken(), num_workers=num_workers)))
    assert message_of(info.value) == 'the file x.png: cannot be read'


def test_exit_codes(capsys):
    def user_error():
        raise DataError('no data')

    def bug():
        raise RuntimeError('a bug')

    for main, code in ((lambda: None, None), (lambda: 3, 3), (user_error, 2)):
        with pytest.raises(SystemExit) as info:
            run_tool(main)
        assert info.value.code == code
    assert capsys.readouterr().err == 'error: no data\n'
    with pytest.raises(RuntimeError):
        run_tool(bug)


class WatchStandIn:
    """Notes what it is told, in the place of ending the process."""

    rank = 3

    def __init__(self):
        self.told = []

    def fail(self, report, summary, code, is_secondary=False):
        self.told.append((report, summary, code, is_secondary))
        raise SystemExit


@pytest.fixture
def watch(monkeypatch):
    watch = WatchStandIn()
    monkeypatch.setattr(cli, 'current_watch', lambda: watch)
    return watch


def test_one_of_several_processes_tells_the_others_of_a_users_mistake(watch):
    raising(DataError('no data'))
    assert watch.told == [('error: no data', 'error: no data', 2, False)]


def test_one_of_several_processes_tells_the_others_of_a_bug(watch):
    raising(KeyError('a bug'))
    report, *others = watch.told[0]
    assert others == ["KeyError: 'a bug'", 1, False]
    assert report.startswith('rank 3 has failed\nTraceback') and report.endswith("KeyError: 'a bug'\n")


def test_one_of_several_processes_has_lost_another(watch):
    raising(RuntimeError('[/third_party/gloo/pair.cc:537] Connection reset by peer'))
    report, summary, code, is_secondary = watch.told[0]
    assert summary.startswith('another process seems to have died') and (code, is_secondary) == (1, True)
    assert report.startswith(f'rank 3 has failed: {summary}\nTraceback') and 'gloo' in report


def test_one_of_several_processes_is_interrupted_by_hand(watch):
    raising(KeyboardInterrupt())
    assert watch.told == [('interrupted', 'interrupted', 130, False)]


def raising(error: BaseException) -> None:
    def main():
        raise error

    with pytest.raises(SystemExit):
        run_tool(main)


@pytest.mark.parametrize('is_first', [True, False])
def test_a_training_that_was_told_to_stop_is_no_failure(watch, monkeypatch, capsys, is_first):
    """All processes end so, and leave together: the first one may still have to save."""
    at_exit = []
    monkeypatch.setattr(cli.atexit, 'register', at_exit.append)
    monkeypatch.setattr(cli, 'is_main_process', lambda: is_first)

    def stopped():
        raise TrainingInterrupted('saved at iteration 5')

    with pytest.raises(SystemExit) as info:
        run_tool(stopped)
    assert info.value.code == 75 and watch.told == [] and at_exit == [cli.leave_processes]
    assert capsys.readouterr().err == ('saved at iteration 5\n' if is_first else '')


@pytest.mark.parametrize(
    'has_gpu, wish, expected', [(False, None, 1), (False, '1', 1), (False, '0', 0), (True, None, 0), (True, '1', 0)]
)
def test_tools_keep_freed_memory_where_there_is_no_gpu(monkeypatch, has_gpu, wish, expected):
    calls = []
    monkeypatch.setattr(cli, 'is_cuda_available', lambda: has_gpu)
    monkeypatch.setattr(cli, 'keep_freed_memory', lambda: calls.append(True))
    monkeypatch.delenv('MMSAGAN_KEEP_MEMORY', raising=False)
    if wish is not None:
        monkeypatch.setenv('MMSAGAN_KEEP_MEMORY', wish)
    with pytest.raises(SystemExit):
        run_tool(lambda: 0)
    assert len(calls) == expected


def test_a_process_leaves_its_group_when_it_ends_and_not_before(tmp_path, monkeypatch):
    at_exit = []
    monkeypatch.setattr(cli.atexit, 'register', at_exit.append)

    def join():
        if not dist.is_initialized():
            dist.init_process_group('gloo', init_method=f'file://{tmp_path}/group', rank=0, world_size=1)

    for _ in range(2):
        with pytest.raises(SystemExit):
            run_tool(join)
        assert dist.is_initialized(), 'a second tool in the same process finds it'
    for function in at_exit:
        function()
    assert at_exit and not dist.is_initialized()


@pytest.mark.parametrize(
    'value, expected',
    [
        ("[{'type':'FID','fake_nums':5},{'type':'IS'}]", [dict(type='FID', fake_nums=5), dict(type='IS')]),
        ("{'a':(1,2)}", dict(a=(1, 2))),
        ('[a,b]', ['a', 'b']),
        ('(1,2)', (1, 2)),
        ('0.5', 0.5),
    ],
)
def test_values_on_the_command_line(value, expected):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    assert parser.parse_args(['--cfg-options', f'key={value}']).cfg_options == dict(key=expected)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--wrok-dir', 'x'], 'unrecognized arguments: --wrok-dir x; did you mean --work-dir?\n'),
        (['--wrok-dir=x'], 'unrecognized arguments: --wrok-dir=x; did you mean --work-dir?\n'),
        (['--zzz'], 'unrecognized arguments: --zzz\n'),
        (['more'], 'unrecognized arguments: more\n'),
    ],
)
def test_a_misspelt_option(capsys, arguments, said):
    parser = tool_parser('A tool.')
    parser.add_argument('--work-dir')
    with pytest.raises(SystemExit, match='2'):
        parser.parse_args(arguments)
    assert capsys.readouterr().err.endswith(said)


def test_a_value_that_cannot_be_read(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions)
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', "key=[dict(type='FID', fake_nums=5)]"])
    assert 'cannot read the value; write lists and dicts as in Python' in capsys.readouterr().err


def test_ctrl_c_outside_of_a_training(monkeypatch, capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stopped:
        run_tool(main)
    assert stopped.value.code == 130 and capsys.readouterr().err == 'interrupted\n'
