"""The command ``mmsagan``: one front door to the scripts in ``tools/``. It imports PyTorch only when a command runs."""

import difflib
import platform
import runpy
import sys

from mmsagan import __version__
from mmsagan.cli.environment import settle_environment
from mmsagan.cli.tool import run_tool
from mmsagan.errors import ConfigError
from mmsagan.utils.files import shipped_root

# By title of the overview: name of a command -> its script, relative to tools/, and a summary.
GROUPS = {
    'train and evaluate': {
        'train': ('train.py', 'train the experiment that a config describes, or resume it'),
        'test': ('test.py', "score a checkpoint: IS, FID and the config's other metrics"),
        'series': ('misc/run_series.py', 'train several configs with the same seeds, for one table and one figure'),
        'cas': ('misc/classification_score.py', 'train a classifier on samples, and score it on real test images'),
        'plot': ('analysis_tools/plot_metrics.py', 'plot scores and losses of one or more runs'),
    },
    'look at a model': {
        'sample': ('sample.py', 'draw samples: a grid, a folder of PNGs, or one .npz file'),
        'class-grids': ('analysis_tools/class_grids.py', 'draw samples by class, with names and intra-FIDs'),
        'neighbours': ('analysis_tools/neighbours.py', 'draw samples beside the nearest training images: are they copies?'),
        'interpolate': ('analysis_tools/interpolate.py', 'draw what lies between noise vectors or classes: a grid or a film'),
        'directions': ('analysis_tools/directions.py', 'draw what the strongest directions of the noise change'),
        'spectrum': ('analysis_tools/spectrum.py', 'draw the power spectra of samples and training images'),
        'embed': ('analysis_tools/embed.py', 'draw samples and training images in the plane, by t-SNE of features'),
        'attention': ('visualize_attention.py', 'draw the maps of the attention layers'),
        'web': ('web_demo.py', 'all of this in the browser: samples, attention, interpolation'),
    },
    'checkpoints': {
        'convert': ('model_converters/convert.py', 'convert from StudioGAN, MMGeneration and MMagic, and to StudioGAN'),
        'publish': ('model_converters/publish_model.py', 'strip a checkpoint of what only its training needs'),
        'export': ('deployment/export.py', 'write the generator as ONNX, pt2 or TorchScript'),
    },
    'images and statistics': {
        'check-data': ('misc/check_data.py', 'read every image of a data set and report what is wrong'),
        'pack': ('dataset_converters/pack_images.py', 'decode and resize a data set once, for fast training'),
        'statistics': ('utils/inception_stat.py', 'extract the statistics of real images for FID'),
        'evaluate': ('evaluate_images.py', 'score images from any source: a folder, zip, tar or npz file'),
    },
    'configs and speed': {
        'print-config': ('misc/print_config.py', 'print a config with all that it inherits, and check it'),
        'flops': ('analysis_tools/get_flops.py', 'count parameters and FLOPs, layer by layer'),
        'benchmark': ('benchmark.py', 'measure speed against the reference implementation'),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

OVERVIEW = """\
usage: mmsagan COMMAND [ARGUMENTS]
       mmsagan COMMAND --help      arguments of a command, with examples
       mmsagan --version           versions, device, and where configs and tools are

Self-Attention GANs: train them, score them, see what they attend to.

{commands}

examples:
  mmsagan train sagan_32_mnist_b32x1 --work-dir digits
  mmsagan sample sagan_32_mnist_b32x1 digits/iter_3000.pth --out digits.png

The first learns handwritten digits on a CPU in minutes, the second draws some. A config is given
by its file or, if it belongs to this package, by its name. Several GPUs:

  torchrun --standalone --nproc_per_node=8 -m mmsagan train CONFIG --launcher pytorch

exit codes: 0 done; 1 a bug, or findings of check-data; 2 an error that you can fix, and the
message says how; 75 training was stopped and has saved its state; 130 Ctrl-C"""


def main() -> None:
    """Runs a command, which exits with its own code."""
    settle_environment()
    name, *rest = sys.argv[1:] or ['']
    if name in ('', '-h', '--help', 'help'):
        commands = '\n\n'.join(
            '\n'.join([f'{title}:', *(f'  {name:12}  {summary}' for name, (_, summary) in group.items())])
            for title, group in GROUPS.items()
        )
        print(OVERVIEW.format(commands=commands), file=sys.stdout if name else sys.stderr)
        sys.exit(0 if name else ConfigError.exit_code)
    if name == '--version':
        # Imported here, since they take seconds that no other text of this module needs.
        import mmengine
        import torch

        from mmsagan.engine.distributed import device_name

        count = torch.accelerator.device_count()
        device = f'{count} x {device_name()}' if count > 1 else device_name()
        print(f'mmsagan {__version__}, torch {torch.__version__}, mmengine {mmengine.__version__}, ', end='')
        print(f'Python {platform.python_version()}, {device}\nconfigs and tools: {shipped_root()}')
        sys.exit(0)
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, [*COMMANDS, '--help', '--version'], n=1)
        hint = f'did you mean {close[0]}?' if close else 'mmsagan --help lists the commands'
        print(f'error: there is no command {name!r}; {hint}', file=sys.stderr)
        sys.exit(ConfigError.exit_code)
    sys.argv = [f'mmsagan {name}', *rest]
    tool = runpy.run_path(str(shipped_root() / 'tools' / COMMANDS[name][0]), run_name='mmsagan_tool')
    run_tool(tool['main'], tool.get('parse_args'))
