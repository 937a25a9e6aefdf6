"""The command ``mmsagan`` and what all tools share: help, mistakes, exit codes, options."""

import argparse
import runpy
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch._inductor.exc import InvalidCxxCompiler
from torch.distributed import DistNetworkError
from torch.utils.data import DataLoader, Dataset

from mmsagan import __version__
from mmsagan.apis.export import DEFAULT_OPSET, FORMATS
from mmsagan.apis.statistics import METRIC_NAMES
from mmsagan.cli.main import COMMANDS, main
from mmsagan.cli.tool import add_cfg_options, run_tool, tool_parser
from mmsagan.datasets.packed import INTERPOLATIONS, LAYOUTS
from mmsagan.errors import DataError, TrainingInterrupted
from mmsagan.evaluation.extractors import PyTorchFIDInception
from mmsagan.registry import EXTRACTORS
from mmsagan.utils import files

TOOLS = Path(__file__).parent.parent.parent / 'tools'
# Scripts for the developers of this package, which have no command, and modules of the other scripts.
INTERNAL = {f'misc/{name}.py' for name in ('check_runner', 'class_agreement', 'gpu_check', 'train_small_extractor')}
INTERNAL |= {f'misc/{name}.py' for name in ('benchmark_cases', 'cas_classifiers', 'flop_counts')}


@pytest.fixture
def call(monkeypatch, capsys):
    """Calls the command: call(argument, ...) -> exit code, output and errors."""
    monkeypatch.setenv('COLUMNS', '100')
    monkeypatch.setattr(sys, 'argv', ['mmsagan'])  # is restored afterwards

    def run(*arguments: str) -> tuple[int, str, str]:
        sys.argv[1:] = arguments
        with pytest.raises(SystemExit) as info:
            main()
        said = capsys.readouterr()
        return info.value.code or 0, said.out, said.err

    return run


def test_every_script_is_a_command_or_internal(call):
    scripts = [script for script, _ in COMMANDS.values()]
    assert sorted([*scripts, *INTERNAL]) == sorted(path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob('*.py'))
    code, text, _ = call('--help')
    lines = [line.split(None, 1) for line in text.splitlines() if line.startswith('  ')]
    assert code == 0 and all([name, summary] in lines for name, (_, summary) in COMMANDS.items())
    assert call() == (2, '', text)
    assert f'mmsagan {__version__}, torch {torch.__version__},' in call('--version')[1]


@pytest.mark.parametrize('name', COMMANDS)
def test_help_and_examples_of_a_command(name, call, monkeypatch):
    code, text, _ = call(name, '--help')
    assert code == 0 and text.startswith(f'usage: mmsagan {name} ')
    script = runpy.run_path(str(TOOLS / COMMANDS[name][0]))
    assert script['__doc__'].splitlines()[0] in text
    examples = text.partition('\nexamples:\n')[2].splitlines()
    assert examples
    for line in examples:
        assert line.startswith(f'  mmsagan {name} ')
        monkeypatch.setattr(sys, 'argv', shlex.split(line)[1:])
        script['parse_args']()


@pytest.mark.parametrize(
    'line',
    [
        *('train {}', 'test {} model.pth', 'series {} --work-dir series', 'check-data {}', 'print-config {}', 'flops {}'),
        *('sample {} model.pth --out a.png', 'class-grids {} model.pth --out a.png', 'attention {} model.pth --out a.png'),
        *('export {} model.pth --format pt2 --out a.pt2', 'pack --data-cfg {} --out packed', 'statistics --data-cfg {}'),
        'benchmark --config {}',
    ],
)
def test_every_command_finds_configs_by_name(line, call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={'generator.weight': torch.zeros(1)}), 'model.pth')
    code, _, errors = call(*line.format('sagan_32_mnist_b32x').split())
    message = errors.splitlines()[-1]  # MMEngine's logger may write to an earlier test's captured stream
    assert code == 2 and message.startswith('error: sagan_32_mnist_b32x ') and 'sagan_32_mnist_b32x1' in message


@pytest.mark.parametrize(
    'typed, meant', [('trian', 'train'), ('tools/visualize_attention.py', '--help'), ('--versoin', '--version')]
)
def test_an_unknown_command(call, typed, meant):
    code, output, errors = call(typed, '--help')
    message = errors.splitlines()[-1]
    assert (code, output) == (2, '') and message.startswith('error: ') and repr(typed) in message and meant in message


def test_pytorch_is_not_imported_without_need():
    """Not for help, nor to say that an option is unknown, or a checkpoint or a config is missing."""
    lines = [['--help'], *([name, '--help'] for name in COMMANDS), ['sample', '--unknown'], ['benchmark', '--what', 'nothing']]
    lines.append(['attention', 'config.py', __file__, '--out', 'a.png', '--queries', 'abc'])
    lines.append(['sample', 'config.py', 'missing.pth', '--out', 'a.png'])
    lines += [['train', 'no.py'], ['test', 'no.py', 'zoo'], ['flops', 'no.py'], ['benchmark', '--config', 'no.py']]
    lines.append(['series', 'sagan_32_mnist_b32x1', 'no.py', '--work-dir', 'series'])
    mistakes = len(lines) - 1 - len(COMMANDS)
    code = f"""import sys
from mmsagan.cli.main import main
for line in {lines!r}:
    sys.argv = ['mmsagan', *line]
    try:
        main()
    except SystemExit as end:
        print(end.code, 'torch' in sys.modules, file=sys.stderr)
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    ends = [line for line in result.stderr.splitlines() if line.endswith(('False', 'True'))]
    assert ends == ['0 False'] * (1 + len(COMMANDS)) + ['2 False'] * mistakes, result.stderr
    assert 'error: checkpoint missing.pth does not exist' in result.stderr and result.stderr.count('error: no.py ') == 5


@pytest.mark.parametrize('config', ['sagan_32_mnist_b32x1', 'sagan/sagan_32_mnist_b32x1.py', __file__, 'hf://user/repo', None])
def test_a_config_that_may_exist_is_left_to_the_tool(config):
    with pytest.raises(SystemExit, match='5'):
        run_tool(lambda args: 5, lambda: argparse.Namespace(config=config))


def test_choices_that_are_written_twice(monkeypatch):
    """Parsers name them without importing the modules that know them."""
    found = {}
    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', lambda parser: found.update(parser._option_string_actions))
    for script in ('evaluate_images.py', 'dataset_converters/pack_images.py', 'deployment/export.py'):
        with suppress(AttributeError):  # of arguments, which are none here
            runpy.run_path(str(TOOLS / script))['parse_args']()
    assert [*found['--metrics'].choices] == [*METRIC_NAMES] and [*found['--format'].choices] == [*FORMATS]
    assert (found['--layout'].choices, found['--interpolation'].choices) == (LAYOUTS, INTERPOLATIONS)
    assert f'default: {DEFAULT_OPSET},' in found['--opset'].help
    assert found['--resize-mode'].choices == PyTorchFIDInception.resize_modes
    assert all(f'{name}, ' in found['--extractor'].help for name in EXTRACTORS.module_dict if name.islower())


def test_arguments_are_passed_unchanged_to_a_script_that_exists(call, monkeypatch, tmp_path):
    (tmp_path / 'model-index.yml').touch()
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'toy.py').write_text('import sys\ndef main():\n    print(sys.argv)\n    return 3\n')
    monkeypatch.setattr(files, 'PACKAGE', tmp_path / 'mmsagan')
    monkeypatch.setitem(COMMANDS, 'toy', ('toy.py', 'a toy'))
    given = ['--help', '-x', 'a b', '--', 'train']
    assert call('toy', *given) == (3, f'{["mmsagan toy", *given]}\n', '')


def raising(error: BaseException):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    'main, code, message',
    [
        (lambda: None, None, ''),
        (lambda: 1, 1, ''),
        (raising(DataError('no data')), 2, 'error: no data\n'),
        (raising(TrainingInterrupted('saved')), 75, 'saved\n'),
        (raising(KeyboardInterrupt()), 130, 'interrupted\n'),
        (
            raising(torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB.\nmore')),
            2,
            'error: out of memory: CUDA out of memory. Tried to allocate 2 GiB.; set a smaller train_dataloader.batch_size '
            '(or val_dataloader.batch_size, if an evaluation needs it)\n',
        ),
        (raising(DistNetworkError('EADDRINUSE')), 2, 'error: port 29500 is taken; set PORT to another one\n'),
    ],
)
def test_exit_codes(capsys, monkeypatch, main, code, message):
    monkeypatch.setenv('MASTER_PORT', '29500')
    with pytest.raises(SystemExit) as info:
        run_tool(main)
    assert info.value.code == code and capsys.readouterr().err == message


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 // 0)


def test_only_the_first_process_reports_an_interruption(monkeypatch, capsys):
    monkeypatch.setattr('mmengine.dist.is_main_process', lambda: False)
    with pytest.raises(SystemExit, match='75'):
        run_tool(raising(TrainingInterrupted('saved at iteration 5')))
    assert capsys.readouterr().err == ''


class Broken(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise DataError('the file x.png cannot be read')


def test_an_error_of_a_loader_process_is_one_message(capsys):
    with pytest.raises(SystemExit, match='2'):
        run_tool(lambda: next(iter(DataLoader(Broken(), num_workers=1))))
    assert capsys.readouterr().err == 'error: the file x.png cannot be read\n'


@pytest.mark.parametrize(
    'arguments, named',
    [
        (['--wrok-dir', 'x'], '--wrok-dir'),
        (['--cfg-options', 'key'], '--cfg-options'),
        (['--cfg-options', '=5'], '--cfg-options'),
    ],
)
def test_mistakes_in_options(capsys, arguments, named):
    parser = tool_parser('A tool.')
    parser.add_argument('--work-dir')
    add_cfg_options(parser)
    with pytest.raises(SystemExit, match='2'):
        parser.parse_args(arguments)
    assert named in capsys.readouterr().err.splitlines()[-1]


def test_a_model_that_cannot_be_compiled_is_one_message(capsys):
    def main():
        raise InvalidCxxCompiler

    with pytest.raises(SystemExit, match='2'):
        run_tool(main)
    error = capsys.readouterr().err
    assert error.count('\n') == 1 and 'model.compile_cfg' in error and 'CXX' in error
