"""The wheel as a user gets it: built from a copy of the sources, installed elsewhere, and used in an empty folder."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import mmengine
import pytest

from mmsagan.apis import init_model

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ('configs', 'tools', 'model-index.yml')
FILES = ('datasets/digits.npz', 'datasets/digits.LICENSE', 'evaluation/weights/digits.pth', 'py.typed')
SOURCES = (*SHIPPED, 'mmsagan', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / 'mmsagan').is_dir(), reason='the package is built from its sources, which are not here'),
]


def run(*arguments, cwd: Path) -> str:
    result = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope='module')
def site_packages(tmp_path_factory) -> Path:
    """A folder that has the wheel installed, built from a copy of the sources with a stale file of an earlier build."""
    sources, folder = tmp_path_factory.mktemp('sources'), tmp_path_factory.mktemp('site-packages')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
        else:
            shutil.copy(ROOT / name, sources)
    stale = sources / 'build' / 'lib' / 'mmsagan' / '.mim' / 'configs' / 'stale.py'
    stale.parent.mkdir(parents=True)
    stale.touch()
    options = '--no-deps', '--no-build-isolation', '--no-cache-dir', '--disable-pip-version-check', '--wheel-dir', folder
    run('-m', 'pip', 'wheel', *options, '.', cwd=sources)
    (wheel,) = folder.glob('*.whl')
    shutil.unpack_archive(wheel, folder, 'zip')
    wheel.unlink()
    return folder


@pytest.fixture
def run_installed(site_packages, tmp_path):
    """Runs code in an empty folder; -S keeps .pth files out, and with them an editable installation of this package."""
    start = f'import sys; sys.path += [{str(site_packages)!r}, {str(Path(mmengine.__file__).parent.parent)!r}]\n'
    return lambda code: run('-I', '-S', '-c', start + code, cwd=tmp_path)


def test_contents_of_the_wheel(site_packages):
    files = [path for name in SHIPPED for path in (ROOT / name, *(ROOT / name).rglob('*')) if path.is_file()]
    shipped = {path.relative_to(ROOT) for path in files if '__pycache__' not in path.parts}
    mim = site_packages / 'mmsagan' / '.mim'
    assert {path.relative_to(mim) for path in mim.rglob('*') if path.is_file()} == shipped
    assert all((site_packages / 'mmsagan' / name).is_file() for name in FILES)
    others = {path.name for path in site_packages.iterdir() if path.suffix != '.dist-info'}
    assert others == {'mmsagan'}, 'nothing that Python would run at its start'


def test_converting_sampling_and_training_outside_of_the_repository(run_installed, fixture_of, tmp_path):
    """Configs go by their names. The digits come with the package."""
    reference = fixture_of('studiogan_current_32')
    sizes = 'model.generator.base_channels=32 model.discriminator.base_channels=16'
    tiny = 'model.generator.base_channels=8 model.discriminator.base_channels=8 train_dataloader.batch_size=4'
    short = 'train_cfg.max_iters=2 default_hooks.checkpoint.interval=2'
    lines = [
        'mmsagan --version',
        f'mmsagan convert {shlex.quote(str(reference.path))} --out studio.pth',
        f'mmsagan sample sagan_32_cvt_studioGAN studio.pth --out samples.png --num-per-class 1 --cfg-options {sizes}',
        f'mmsagan train sagan_32_mnist_b32x1 --work-dir digits --no-validate --cfg-options {tiny} {short}',
    ]
    said = run_installed(f"""
import runpy, shlex
import _distutils_hack  # MMEngine imports distutils, which setuptools' .pth file provides on Python 3.12 and later
_distutils_hack.add_shim()
for line in {lines!r}:
    sys.argv = shlex.split(line)
    try:
        runpy.run_module('mmsagan', run_name='__main__', alter_sys=True)
    except SystemExit as end:
        if end.code:
            sys.exit(f'{{line}}: exit code {{end.code}}')
""")
    assert 'found: StudioGAN' in said and 'sample it: mmsagan sample sagan_32_cvt_studioGAN' in said
    reference.check(init_model(None, tmp_path / 'studio.pth'))
    assert (tmp_path / 'samples.png').is_file() and (tmp_path / 'digits' / 'iter_2.pth').is_file()
    assert not (tmp_path / 'configs').exists()
