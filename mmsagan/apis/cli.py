"""What the command-line tools share."""

import argparse
import ast
import atexit
import difflib
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from mmengine.config import DictAction
from mmengine.device import is_cuda_available
from mmengine.dist import is_main_process

from mmsagan.engine.distributed import leave_processes
from mmsagan.engine.failures import FailureWatch, current_watch, guess_at, is_lost_connection
from mmsagan.errors import MMSAGANError, TrainingInterrupted
from mmsagan.utils.memory import keep_freed_memory

# What the choices of --inception-style are.
INCEPTION_STYLE = (
    "stylegan: Tero Karras' network; pytorch: that of pytorch-fid and StudioGAN; digits, fashion: small ones of this package, "
    'for such images (default: %(default)s)'
)
INTERRUPTED = 130  # what shells give for Ctrl-C


class CfgOptions(DictAction):
    """``--cfg-options KEY=VALUE …``, with argparse's own message for what is not of that form."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Sequence[str],
        option_string: str | None = None,
    ) -> None:
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string}: expected KEY=VALUE, got {value!r}')
        try:
            super().__call__(parser, namespace, values, option_string)
        except (RecursionError, AssertionError):
            parser.error(
                f'{option_string}: cannot read the value; write lists and dicts as in Python, without spaces: {values}'
            )

    @staticmethod
    def _parse_iterable(val: str) -> Any:
        # MMEngine's own reader does not know dicts.
        if val.startswith(('[', '(', '{')):
            try:
                return ast.literal_eval(val)
            except (ValueError, SyntaxError):
                pass  # such as [a,b] without quotes
        return DictAction._parse_iterable(val)


class HelpFormatter(argparse.HelpFormatter):
    """Keeps a description's paragraphs apart, and the lines of those that begin with ``examples:``."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.strip().split('\n\n')
        return '\n\n'.join(part if part.startswith('examples:') else fill(part, width, indent) for part in paragraphs)


class ToolParser(argparse.ArgumentParser):
    """A parser that has an idea of what a misspelt option was meant to be."""

    def error(self, message: str) -> NoReturn:
        misspelt = re.match(r'unrecognized arguments: (--[^\s=]+)', message)
        close = difflib.get_close_matches(misspelt[1], self._option_string_actions, n=1) if misspelt else []
        super().error(f'{message}; did you mean {close[0]}?' if close else message)


def tool_parser(description: str | None, *examples: str) -> argparse.ArgumentParser:
    """The parser of a tool, without its arguments.

    Args:
        description: What the tool does, its docstring.
        *examples: Arguments that it could be called with, for the end of its help.
    """
    # As it was called: 'mmsagan train' by the front door, which sets the name.
    program = sys.argv[0] if sys.argv[0].startswith('mmsagan ') else f'python {sys.argv[0]}'
    lines = ''.join(f'\n  %(prog)s {example}' for example in examples)
    return ToolParser(
        program, description=description, epilog=f'examples:{lines}' if lines else None, formatter_class=HelpFormatter
    )


def at_least(least: int) -> Callable[[str], int]:
    """An argument's type: a whole number of at least ``least``."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f'must be at least {least}, got {value}')
        return value

    return number


def add_cfg_options(parser: argparse.ArgumentParser, help: str = 'change config values') -> None:
    """Adds ``--cfg-options``, with which every config value can be changed."""
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help=help)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Adds the options of all tools that sample: with the same ones they make the same samples."""
    parser.add_argument(
        '--seed', type=at_least(0), default=0, metavar='N', help='of noise and drawn classes (default: %(default)s)'
    )
    parser.add_argument(
        '--sample-model', choices=['ema', 'orig'], help='which generator; default: the moving average if there is one'
    )
    parser.add_argument(
        '--truncation', type=float, metavar='X', help='largest magnitude of a noise component; default: no limit'
    )
    parser.add_argument('--device', metavar='NAME', help='e.g. cpu or cuda:1; default: a GPU if there is one')
    add_cfg_options(parser)


def add_launcher(parser: argparse.ArgumentParser, scripts: str) -> None:
    """Adds ``--launcher``, and the rank that older versions of torchrun hand over.

    Args:
        parser: Of the tool.
        scripts: Which scripts set it, for the help text.
    """
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm'],
        default='none',
        help=f'who started the processes of a distributed run: torchrun (pytorch) or srun (slurm); see {scripts}',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def run_tool(main: Callable[[], int | None]) -> NoReturn:
    """Runs a tool's main function and exits: 0 or its result; the error's code and one message for what the user can mend.

    If it is one of several processes and fails, all of them end, with its message.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors='backslashreplace')  # names of files need not be UTF-8
    if not is_cuda_available() and os.environ.get('MMSAGAN_KEEP_MEMORY') != '0':
        keep_freed_memory()
    try:
        code = main()
    except TrainingInterrupted as error:  # on all processes, and no failure: the first one may still have to save
        if is_main_process():
            print(message_of(error), file=sys.stderr)
        code = error.exit_code
    except (Exception, KeyboardInterrupt) as error:
        watch = current_watch()
        if watch is not None:
            _fail_together(watch, error)
        if isinstance(error, KeyboardInterrupt):
            print('interrupted', file=sys.stderr)
            sys.exit(INTERRUPTED)
        if not isinstance(error, MMSAGANError):
            raise
        print(f'error: {message_of(error)}', file=sys.stderr)
        sys.exit(error.exit_code)
    # At the interpreter's end and not here: a process may run several tools, and cannot join its group a second time.
    atexit.register(leave_processes)
    sys.exit(code)


def _fail_together(watch: FailureWatch, error: BaseException) -> None:
    if isinstance(error, MMSAGANError):
        message = f'error: {message_of(error)}'
        watch.fail(message, message, error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        watch.fail('interrupted', 'interrupted', INTERRUPTED)
    summary = f'{type(error).__name__}: {error}'.splitlines()[0]
    is_lost = is_lost_connection(error)
    if is_lost:
        summary = guess_at(error)
    report = ''.join(traceback.format_exception(error))
    watch.fail(f'rank {watch.rank} has failed{": " + summary if is_lost else ""}\n{report}', summary, 1, is_secondary=is_lost)


def message_of(error: MMSAGANError) -> str:
    """The error's own message, also when a data loader's process has wrapped it in its traceback."""
    text = str(error).strip()
    if text.startswith('Caught ') and 'Traceback' in text:
        return text.splitlines()[-1].partition(': ')[2]
    return text
