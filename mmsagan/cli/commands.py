"""The commands of ``mmsagan``: a name, the script in ``tools/`` that does the work, and a line for the overview."""

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
        name: What is typed after ``mmsagan``.
        script: The script that it runs, relative to ``tools/``.
        summary: What it does, in one line.
    """

    name: str
    script: str
    summary: str


GROUPS = {
    'train and evaluate': (
        Command('train', 'train.py', 'train the experiment that a config describes, or go on with it'),
        Command('test', 'test.py', "score a checkpoint: IS, FID and the config's other metrics"),
        Command('series', 'misc/run_series.py', 'train several configs with the same seeds, for one table and one figure'),
        Command('plot', 'analysis_tools/plot_metrics.py', 'draw curves of scores and losses, of one run or of several'),
    ),
    'look at a model': (
        Command('sample', 'sample.py', 'make samples: a grid, a folder of PNGs, or one .npz file'),
        Command('class-grids', 'analysis_tools/class_grids.py', 'draw samples by class, with names and intra-FIDs'),
        Command('attention', 'visualize_attention.py', 'draw what the attention layers look at'),
        Command('web', 'web_demo.py', 'all of this in the browser: samples, attention, interpolation'),
    ),
    'checkpoints': (
        Command('convert', 'model_converters/convert.py', 'from StudioGAN, MMGeneration and MMagic, and to StudioGAN'),
        Command('publish', 'model_converters/publish_model.py', 'strip a checkpoint of what only its training needs'),
        Command('export', 'deployment/export.py', 'write the generator as ONNX, pt2 or TorchScript'),
    ),
    'images and statistics': (
        Command('check-data', 'misc/check_data.py', 'read every image of a data set and report what is wrong'),
        Command('pack', 'dataset_converters/pack_images.py', 'decode and resize a data set once, for fast trainings'),
        Command('statistics', 'utils/inception_stat.py', 'extract the statistics of real images that FID compares with'),
        Command('evaluate', 'evaluate_images.py', 'score a folder of images, whatever has made them'),
    ),
    'configs and speed': (
        Command('print-config', 'misc/print_config.py', 'print a config with all that it inherits, and check it'),
        Command('flops', 'analysis_tools/get_flops.py', 'count parameters and FLOPs, layer by layer'),
        Command('benchmark', 'benchmark.py', 'measure speed against the reference implementation'),
    ),
}
COMMANDS = {command.name: command for group in GROUPS.values() for command in group}
# Also what the scripts are called, for those who know them from the repository or from MMGeneration.
NAMES = {**{PurePath(command.script).stem: name for name, command in COMMANDS.items()}, **{name: name for name in COMMANDS}}
