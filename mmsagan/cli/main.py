"""What happens when ``mmsagan`` is called."""

import difflib
import importlib.util
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from mmsagan.cli.commands import COMMANDS, GROUPS, NAMES, Command
from mmsagan.errors import ConfigError
from mmsagan.shipped import shipped_root
from mmsagan.version import __version__

USAGE = """\
usage: mmsagan COMMAND [ARGUMENTS]
       mmsagan COMMAND --help      what a command takes, with examples
       mmsagan --version           versions, device, and where configs and tools are
"""
OVERVIEW = """\
{usage}
Self-Attention GANs: train them, score them, see what they attend to.

{commands}

examples:
  mmsagan train sagan_32_mnist_b64x1 --work-dir digits
  mmsagan sample sagan_32_mnist_b64x1 digits/iter_900.pth --out digits.png

The first learns handwritten digits on a CPU in minutes, the second draws some. A config is given
by its file or, if it is one of this package, by its name. Several GPUs:

  torchrun --nproc_per_node=8 -m mmsagan train CONFIG --launcher pytorch

exit codes: 0 done; 1 a bug, or findings of check-data; 2 something you can fix, and the
message says how; 75 a training was told to stop and has saved its state; 130 Ctrl-C"""
USER_ERROR, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits with its code.

    Args:
        arguments: What stands after ``mmsagan``; default: this process's.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments:
        print(overview(), file=sys.stderr)
        sys.exit(USER_ERROR)
    name, *rest = arguments
    if name in ('-h', '--help', 'help'):
        print(overview())
        sys.exit(0)
    if name == '--version':
        print(versions())
        sys.exit(0)
    if name not in COMMANDS:
        print(f'{USAGE}\nerror: {unknown(name)}', file=sys.stderr)
        sys.exit(USER_ERROR)
    run_command(COMMANDS[name], rest)


def overview() -> str:
    """The text of ``mmsagan --help``: all commands, a line each."""
    width = max(map(len, COMMANDS))
    groups = [
        '\n'.join([f'{title}:', *(f'  {command.name:{width}}  {command.summary}' for command in group)])
        for title, group in GROUPS.items()
    ]
    return OVERVIEW.format(usage=USAGE, commands='\n\n'.join(groups))


def versions() -> str:
    """The text of ``mmsagan --version``: what a report of a problem should state."""
    # Imported here, since they take seconds that no other text of this module needs.
    import mmengine
    import torch

    device = 'CPU'
    if torch.cuda.is_available():
        device = f'{torch.cuda.device_count()} x {torch.cuda.get_device_name()}'
    return (
        f'mmsagan {__version__}, torch {torch.__version__}, mmengine {mmengine.__version__}, '
        f'Python {platform.python_version()}, {device}\nconfigs and tools: {shipped_root()}'
    )


def unknown(name: str) -> str:
    """What to say of a command that there is not."""
    known = [*NAMES, '--help', '--version']
    wanted = Path(name).name.removesuffix('.py')
    close = dict.fromkeys(NAMES.get(match, match) for match in difflib.get_close_matches(wanted, known, n=2))
    hint = f'did you mean {" or ".join(close)}?' if close else 'mmsagan --help lists the commands'
    return f'there is no command {name!r}; {hint}'


def run_command(command: Command, arguments: Sequence[str]) -> NoReturn:
    """Runs a command's script in this process, and exits as the script does."""
    sys.argv = [f'mmsagan {command.name}', *arguments]
    try:
        tool = load_tool(command.script)
        from mmsagan.apis.cli import run_tool
    except ConfigError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:  # while PyTorch is imported, which takes seconds
        print('interrupted', file=sys.stderr)
        sys.exit(INTERRUPTED)
    run_tool(tool.main)


def load_tool(script: str) -> ModuleType:
    """Imports a script of ``tools/``, which then is not run yet: its ``main`` is.

    Raises:
        ConfigError: It is not there.
    """
    path = shipped_root() / 'tools' / script
    if not path.is_file():
        raise ConfigError(f'{path} does not exist: the installation is incomplete, install mmsagan again')
    spec = importlib.util.spec_from_file_location('mmsagan_tool', path)
    assert spec is not None and spec.loader is not None  # it ends with .py
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool
