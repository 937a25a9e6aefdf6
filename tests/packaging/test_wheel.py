"""The wheel as a user gets it: built from a copy of the sources, installed elsewhere, and used in an empty folder."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import mmengine
import pytest
from packaging.requirements import Requirement

from mmsagan import __version__
from mmsagan.apis import init_model

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ('configs', 'tools', 'model-index.yml')
FILES = ('datasets/digits.npz', 'evaluation/weights/digits.pth', 'py.typed')
REPOSITORY = 'https://example.org/us/mmsagan'
SOURCES = (*SHIPPED, 'mmsagan', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / 'mmsagan').is_dir(), reason='the package is built from its sources, which are not here'),
]


def run(*arguments, cwd: Path, program: Path | str = sys.executable) -> str:
    env = dict(os.environ, REPOSITORY=REPOSITORY)
    result = subprocess.run([program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300, env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def copy_sources(sources: Path) -> None:
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
        else:
            shutil.copy(ROOT / name, sources)


@pytest.fixture(scope='module')
def site_packages(tmp_path_factory) -> Path:
    """A folder that has the wheel installed, built from a copy of the sources with a stale file of an earlier build."""
    sources, folder = tmp_path_factory.mktemp('sources'), tmp_path_factory.mktemp('site-packages')
    copy_sources(sources)
    stale = sources / 'build' / 'lib' / 'mmsagan' / '.mim' / 'configs' / 'stale.py'
    stale.parent.mkdir(parents=True)
    stale.touch()
    options = '--no-deps', '--no-build-isolation', '--no-cache-dir', '--disable-pip-version-check', '--wheel-dir', folder
    run('-m', 'pip', 'wheel', *options, '.', cwd=sources)
    (wheel,) = folder.glob('*.whl')
    shutil.unpack_archive(wheel, folder, 'zip')
    return folder


def test_the_source_distribution_builds_the_same_wheel(site_packages, tmp_path):
    (tmp_path / 'sources').mkdir()
    copy_sources(tmp_path / 'sources')
    run(
        '-m', 'build', '--no-isolation', '--outdir', tmp_path / 'dist', '.', cwd=tmp_path / 'sources'
    )  # the wheel from the sdist
    (wheel,), (record,) = (tmp_path / 'dist').glob('*.whl'), site_packages.glob('*.dist-info/RECORD')
    with zipfile.ZipFile(wheel) as archive:
        hashes = set(archive.read(record.relative_to(site_packages).as_posix()).decode().splitlines())
    assert hashes == set(record.read_text().splitlines())


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
    others = {path.name for path in site_packages.iterdir() if path.suffix not in ('.dist-info', '.whl')}
    assert others == {'mmsagan'}, 'nothing that Python would run at its start'
    (info,) = site_packages.glob('*.dist-info')
    assert len([*(info / 'licenses').rglob('*LICENSE')]) == 2  # the digits have their own
    metadata = (info / 'METADATA').read_text()
    links = re.findall(r'\]\(([^)]+)\)|src="([^"]+)"', metadata)
    assert len(links) > 20 and all(link.startswith(('https://', '#')) for pair in links for link in pair if link)
    assert f'Project-URL: Source, {REPOSITORY}' in metadata and f'{REPOSITORY}/blob/v{__version__}/docs/data.md' in metadata


def test_converting_and_sampling_outside_of_the_repository(run_installed, fixture_of, tmp_path):
    """Configs go by their names."""
    reference = fixture_of('studiogan_current_32')
    sizes = 'model.generator.base_channels=32 model.discriminator.base_channels=16'
    lines = [
        'mmsagan --version',
        f'mmsagan convert {shlex.quote(str(reference.path))} --out studio.pth',
        f'mmsagan sample sagan_32_cvt_studioGAN studio.pth --out samples.png --num-per-class 1 --cfg-options {sizes}',
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
    assert (tmp_path / 'samples.png').is_file()
    assert not (tmp_path / 'configs').exists()


def ordinary_dependencies(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """The distributions that `pip install` brings with another one, without its extras."""
    for requirement in map(Requirement, distribution(name).requires or []):
        needed = requirement.marker is None or requirement.marker.evaluate(dict(extra=''))
        if needed and requirement.name not in found:
            try:
                found[requirement.name] = distribution(requirement.name)
            except PackageNotFoundError:  # under another name here: opencv-python is opencv-python-headless
                continue
            ordinary_dependencies(requirement.name, found)
    return found


def test_the_wheel_in_a_fresh_environment_trains_the_demo(site_packages, tmp_path):
    """An environment that has the wheel and its ordinary dependencies, which are linked into it; no test may download any."""
    environment = tmp_path / 'environment'
    run('-m', 'venv', '--without-pip', environment, cwd=tmp_path)
    (purelib,) = environment.glob('lib/*/site-packages')
    dependencies = ordinary_dependencies('mmsagan', {})
    for item in [*dependencies.values(), distribution('opencv-python-headless')]:
        for top in {file.parts[0] for file in item.files if file.parts[0] not in ('..', '__pycache__')}:
            if not (purelib / top).exists():
                (purelib / top).symlink_to(item.locate_file(top))
    assert not {'mlxtend', 'gradio', 'pytest', 'scipy', 'sklearn', 'pandas', 'huggingface_hub'} & {*os.listdir(purelib)}
    (wheel,) = site_packages.glob('*.whl')
    python = environment / 'bin' / 'python'
    run(
        '-m',
        'pip',
        '--python',
        python,
        'install',
        '--no-deps',
        '--no-index',
        '--disable-pip-version-check',
        wheel,
        cwd=tmp_path,
    )
    tiny = 'model.generator.base_channels=8 model.discriminator.base_channels=8 train_dataloader.batch_size=4'
    short = 'train_cfg.max_iters=2 train_cfg.val_interval=2 default_hooks.checkpoint.interval=2 val_dataloader.batch_size=500'
    arguments = f'train sagan_32_mnist_b32x1 --work-dir digits --cfg-options {tiny} {short}'.split()
    run(*arguments, cwd=tmp_path, program=environment / 'bin' / 'mmsagan')
    assert (tmp_path / 'digits' / 'iter_2.pth').is_file() and (tmp_path / 'digits' / 'summary.md').is_file()
