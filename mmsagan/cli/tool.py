"""What the scripts in ``tools/`` share: their argument parser, common options, and how they end.

Neither this module nor the scripts import PyTorch before the arguments are known to be right, since that takes seconds.
"""

import argparse
import atexit
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from mmsagan.cli.environment import settle_environment
from mmsagan.errors import CheckpointError, ConfigError, MMSAGANError, TrainingInterrupted
from mmsagan.utils import OptionText
from mmsagan.utils.files import find_config
from mmsagan.utils.memory import keep_freed_memory


class CfgOptions(argparse.Action):
    """``--cfg-options KEY=VALUE ...``; :func:`~mmsagan.engine.config.merge_options` reads the values."""

    def __call__(self, parser, namespace, values, option_string=None):
        options = dict(getattr(namespace, self.dest) or {})
        for key, equals, text in (item.partition('=') for item in values):
            if not equals or not key.strip():
                parser.error(f'{option_string}: expected KEY=VALUE, without spaces around =; got {values}')
            options[key.strip()] = OptionText(text)
        setattr(namespace, self.dest, options)


def tool_parser(description: str | None, *examples: str) -> argparse.ArgumentParser:
    """Creates the parser of a tool, without its arguments. Its help ends with the examples, which are argument lists."""
    # The front door sets the name to 'mmsagan train', for example.
    program = sys.argv[0] if sys.argv[0].startswith('mmsagan ') else f'python {sys.argv[0]}'
    epilog = '\n  %(prog)s '.join(['examples:', *examples]) if examples else None
    style = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(program, description=description, epilog=epilog, formatter_class=style)


def at_least(least: int) -> Callable[[str], int]:
    """Returns an argument type: an integer that is not less than ``least``."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f'must be at least {least}, got {value}')
        return value

    return number


def add_cfg_options(parser: argparse.ArgumentParser, help: str = 'change config values') -> None:
    """Adds ``--cfg-options``, which overrides config values."""
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help=help)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the config and the checkpoint of a trained model."""
    parser.add_argument('config', help='config file, the name of one of this package, or hf://user/repo')
    help = "file, URL or hf://user/repo, also of MMGeneration, MMagic or StudioGAN; 'zoo' for the config's published weights"
    parser.add_argument('checkpoint', help=help)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the tools that sample; equal options give equal samples in all of them."""
    help = 'seed of noise and random classes (default: %(default)s)'
    parser.add_argument('--seed', type=at_least(0), default=0, metavar='N', help=help)
    help = 'which generator; default: the moving average if there is one'
    parser.add_argument('--sample-model', choices=['ema', 'orig'], help=help)
    help = 'largest magnitude of a noise component; default: no limit'
    parser.add_argument('--truncation', type=float, metavar='X', help=help)
    parser.add_argument('--device', metavar='NAME', help='e.g. cpu or cuda:1; default: a GPU if there is one')
    add_cfg_options(parser)


def add_labels(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds ``--labels``, which ``parse_classes`` reads when the names of the classes are known."""
    help = 'labels or names of classes, e.g. 0-9 or 1,5,cat; a number is a label, and =10 the class named 10; default: '
    parser.add_argument('--labels', metavar='CLASSES', help=help + default)


def add_extractor(parser: argparse.ArgumentParser) -> None:
    """Adds the options that choose the extractor of metrics; :func:`extractor_options` reads them."""

    def name_or_json(text: str) -> dict[str, Any]:
        return dict(extractor=json.loads(text)) if text.lstrip().startswith('{') else dict(inception_style=text)

    help = (
        'stylegan, vgg16, pytorch, dinov2, clip, digits, fashion, another registered name or a config as JSON; '
        'default: the one that each metric is published with'
    )
    parser.add_argument('--extractor', '--inception-style', type=name_or_json, default={}, metavar='NAME|JSON', help=help)
    parser.add_argument('--inception-pth', metavar='FILE', help='its file or folder; default: downloaded into the cache')
    help = "how pytorch's extractor resizes: as pytorch-fid (legacy, the default), ADM (tensorflow), clean-fid or StudioGAN"
    parser.add_argument('--resize-mode', choices=('legacy', 'tensorflow', 'clean', 'friendly'), help=help)


def extractor_options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments of metrics that the options of :func:`add_extractor` stand for."""
    options = dict(args.extractor, inception_path=args.inception_pth, resize_mode=args.resize_mode)
    if args.inception_pth and 'extractor' in options:
        options['extractor'] = dict(options['extractor'], path=options.pop('inception_path'))
    return {name: value for name, value in options.items() if value is not None}


def add_launcher(parser: argparse.ArgumentParser, scripts: str) -> None:
    """Adds ``--launcher``, which the named scripts set."""
    help = f'what started the processes of a distributed run: torchrun (pytorch) or srun (slurm); see {scripts}'
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help=help)


def run_tool(main: Callable[..., int | None], parse_args: Callable[[], argparse.Namespace] | None = None) -> NoReturn:
    """Runs a tool's main function and exits, with 0 or what ``main`` returns, or 130 for Ctrl-C.

    ``main`` gets what ``parse_args`` returns. Errors that the user can fix are one message and exit with their code; a bug is a
    traceback and 1.
    """
    settle_environment()
    try:
        arguments = [parse_args()] if parse_args else []
        given = vars(arguments[0]) if arguments else {}
        checkpoint = given.get('checkpoint')
        if checkpoint not in (None, 'zoo') and '://' not in checkpoint and not os.path.exists(os.path.expanduser(checkpoint)):
            raise CheckpointError(f'checkpoint {checkpoint} does not exist')
        for config in given.get('configs', [given.get('config')]):
            if config is not None and '://' not in config:
                find_config(config)
        import mmsagan.engine.distributed  # noqa: F401  # PyTorch and MMEngine, which take seconds
    except MMSAGANError as error:
        _wait_for_the_first_process()
        print(f'error: {error}', file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        sys.exit(130)
    from mmengine.device import get_device
    from torch.distributed.elastic.multiprocessing.errors import record

    if get_device() == 'cpu' and os.environ.get('MMSAGAN_KEEP_MEMORY') != '0':
        keep_freed_memory()
    sys.exit(record(_run)(partial(main, *arguments)))  # which torchrun reports


def _wait_for_the_first_process() -> None:
    """Lets the first process say what the others would say, too; torchrun or srun ends them meanwhile."""
    if os.environ.get('RANK', os.environ.get('SLURM_PROCID', '0')) != '0':
        time.sleep(5)


def _run(main: Callable[[], int | None]) -> int | None:
    from mmengine.dist import get_rank, is_main_process
    from torch.distributed import DistError

    from mmsagan.engine.distributed import leave_processes

    try:
        code = main()
    except MMSAGANError as error:
        message = str(error).strip()
        if message.startswith('Caught ') and 'Traceback' in message:  # from a process of a data loader
            message = message.splitlines()[-1].partition(': ')[2]
        if not isinstance(error, TrainingInterrupted):
            _wait_for_the_first_process()
            print(f'error: {message}', file=sys.stderr)
            return error.exit_code
        if is_main_process():  # all of them are interrupted
            print(message, file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 130  # what shells return for Ctrl-C
    except Exception as error:
        if type(error).__module__ in ('torch._dynamo.exc', 'torch._inductor.exc'):
            reason = next((line for line in reversed(str(error).splitlines()) if 'ompiler' in line), str(error).strip())
            remedy = 'install a C++ compiler (such as the package g++) or name one in CXX, or set model.compile_cfg=None'
            print(f'error: model.compile_cfg: torch.compile has failed: {reason}; {remedy}', file=sys.stderr)
            return ConfigError.exit_code
        if type(error).__name__ in ('OutOfMemoryError', 'MemoryError') or 'DefaultCPUAllocator' in str(error):
            reason = (str(error).strip().splitlines() or ['no more to say'])[0]
            remedy = 'set a smaller train_dataloader.batch_size (or val_dataloader.batch_size, if an evaluation needs it)'
            print(f'error: out of memory: {reason}; {remedy}', file=sys.stderr)
            return ConfigError.exit_code
        if isinstance(error, DistError) and 'EADDRINUSE' in str(error):
            print(f'error: port {os.environ["MASTER_PORT"]} is taken; set PORT to another one', file=sys.stderr)
            return ConfigError.exit_code
        # gloo's errors have no class of their own, but name the source file they come from.
        if isinstance(error, DistError) or (isinstance(error, RuntimeError) and 'gloo/' in str(error)):
            print(f'rank {get_rank()} ends: another process has failed (see its message) or does not answer', file=sys.stderr)
            time.sleep(5)  # torchrun ends this process meanwhile, and reports the other one's failure
        raise
    # Not here: a process may run several tools, and cannot join its group a second time.
    atexit.register(leave_processes)
    return code
