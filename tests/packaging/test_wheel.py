"""What an installation has, by the package's own wheel: configs, tools, model zoo, and the entry in MMEngine's hub."""

import email
import tarfile
import zipfile
from pathlib import Path

import mmengine
import pytest
from building import SHIPPED, SOURCES, build, copy_sources, shipped_files

from mmsagan import __version__

DIST_INFO = f'mmsagan-{__version__}.dist-info'
CONFIG = 'sagan/sagan_32_woReLUinplace_cifar10_b64x1.py'

pytestmark = pytest.mark.slow


def test_the_wheel_has_configs_tools_and_zoo(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        record = archive.read(f'{DIST_INFO}/RECORD').decode()
        top_level = archive.read(f'{DIST_INFO}/top_level.txt').decode().split()
    assert {name.removeprefix('mmsagan/.mim/') for name in names if '.mim/' in name} == shipped_files()
    assert {'mmsagan/evaluation/weights/digits.pth', 'mmsagan/py.typed', '_mmsagan_hub.py', 'mmsagan-hub.pth'} <= names
    assert {name.split('/')[0] for name in names} == {'mmsagan', DIST_INFO, '_mmsagan_hub.py', 'mmsagan-hub.pth'}
    assert not [name for name in names if '__pycache__' in name]
    assert 'mmsagan-hub.pth,' in record and '_mmsagan_hub.py,' in record, 'pip uninstall removes what is recorded'
    assert top_level == ['mmsagan'], "MMEngine looks for .mim in the first one's folder"


def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = email.message_from_bytes(archive.read(f'{DIST_INFO}/METADATA'))
        assert f'{DIST_INFO}/licenses/LICENSE' in archive.namelist()
    assert (metadata['Name'], metadata['Version'], metadata['License-Expression']) == ('mmsagan', __version__, 'Apache-2.0')
    assert {'demo', 'docs', 'export', 'tensorboard', 'tests', 'wandb'} == set(metadata.get_all('Provides-Extra'))
    named = [line.rpartition(' ')[2] for line in metadata.get_all('Classifier') if 'Python :: 3.' in line]
    assert metadata['Requires-Python'] == f'>={named[0]}' and named == ['3.10', '3.11', '3.12', '3.13']


def test_building_puts_no_copies_into_the_sources(wheel, sources):
    assert {path.name for path in sources.iterdir()} - set(SOURCES) <= {'build', 'mmsagan.egg-info'}
    assert not (sources / 'mmsagan' / '.mim').exists()


def test_what_was_deleted_is_not_shipped_by_the_next_build(wheel, sources, tmp_path):
    stale = sources / 'build' / 'lib' / 'mmsagan' / '.mim' / 'configs' / 'deleted.py'
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.touch()
    with zipfile.ZipFile(build('wheel', sources, tmp_path)) as archive:
        assert not [name for name in archive.namelist() if 'deleted' in name]


def test_a_source_distribution_has_all_that_a_wheel_needs(wheel, sources, tmp_path):
    with tarfile.open(build('sdist', sources, tmp_path)) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert shipped_files() | {'mmsagan/_hub.py', 'mmsagan/evaluation/weights/digits.pth', 'setup.py', 'README.md'} <= names
    assert not [name for name in names if '__pycache__' in name or '.mim' in name]


def test_an_editable_installation_links_to_the_sources(tmp_path):
    (tmp_path / 'sources').mkdir()
    sources = copy_sources(tmp_path / 'sources')
    for _ in range(2):
        with zipfile.ZipFile(build('editable', sources, tmp_path)) as archive:
            assert {'_mmsagan_hub.py', 'mmsagan-hub.pth'} <= set(archive.namelist())
            # A path, and no import hook: from the folder above a clone that is called mmsagan, the package is found, too.
            paths = [archive.read(name).decode() for name in archive.namelist() if name.startswith('__editable__')]
            assert [Path(path.strip()).resolve() for path in paths] == [sources.resolve()]
        links = list((sources / 'mmsagan' / '.mim').iterdir())
        assert {link.name for link in links} == set(SHIPPED) and all(link.is_symlink() for link in links)
        assert (sources / 'mmsagan' / '.mim' / 'configs').resolve() == (sources / 'configs').resolve()


def test_starting_python_loads_nothing_but_the_hook(installed):
    assert installed("print(json.dumps([n for n in sys.modules if 'mm' in n or n.startswith('torch')]))") == ['_mmsagan_hub']


def test_the_hook_minds_its_own_business_without_mmengine(installed):
    code = """
sys.path.pop()
try:
    import mmengine.config.utils
except ModuleNotFoundError as error:
    print(json.dumps(str(error)))
"""
    assert installed(code) == "No module named 'mmengine'"


@pytest.mark.parametrize('order', ['mmsagan, mmengine.config.utils', 'mmengine.config.utils, mmsagan', 'mmengine.config.utils'])
def test_the_package_is_known_to_mmengine(installed, order):
    code = """
print(json.dumps([mmengine.config.utils.MODULE2PACKAGE['mmsagan'], mmengine.config.utils.MODULE2PACKAGE['mmagic'],
                  'mmsagan.registry' in sys.modules, 'torch' in sys.modules]))
"""
    assert installed(f'import {order}\n{code}') == ['mmsagan', 'mmagic', False, False]


def test_without_the_hook_importing_the_package_is_enough(installed):
    code = "sys.meta_path.pop(0); import mmsagan, mmengine.config.utils as u; print(json.dumps('mmsagan' in u.MODULE2PACKAGE))"
    assert installed(code)


def test_mmengines_hub_finds_configs_models_and_bases(installed, site_packages, tmp_path):
    skip_without_pkg_resources()
    (tmp_path / 'mine.py').write_text(f"""
_base_ = 'mmsagan::{CONFIG}'
model = dict(generator=dict(base_channels=8), discriminator=dict(base_channels=8))
""")
    code = f"""
from mmengine.hub import get_config, get_model
cfg = get_config('mmsagan::{CONFIG}', pretrained=True)
base = get_config('mmsagan::_base_/gen_default_runtime.py')
assert 'mmsagan' not in sys.modules, 'nothing above needs the package imported'
model = get_model('mmsagan::{CONFIG}')
from mmsagan.apis.zoo import resolve_config, resolve_weights
from mmsagan.engine.config import load_config
from mmsagan.engine.config_check import check_config
from mmsagan.registry import MODELS
mine = load_config('mine.py')
check_config(mine)
print(json.dumps(dict(
    filename=cfg.filename, model_path=cfg.model_path, scope=base.default_scope, model=type(model).__name__,
    zoo=[str(resolve_config('sagan_32_woReLUinplace_cifar10_b64x1')), resolve_weights('{CONFIG}')],
    channels=[cfg.model.generator.base_channels, mine.model.generator.base_channels],
    mine=type(MODELS.build(mine.model)).__name__, scopes='_scope_' in repr(mine),
)))
"""
    found = installed(code)
    assert Path(found['filename']) == site_packages / 'mmsagan' / '.mim' / 'configs' / CONFIG
    assert found['model_path'].endswith('fid-iter480000_20210730_125449-d50568a4.pth'), 'the one with the best FID'
    assert (found['scope'], found['model'], found['mine']) == ('mmsagan', 'ConditionalGAN', 'ConditionalGAN')
    assert found['zoo'] == [str(Path(found['filename']).resolve()), found['model_path']]
    assert found['channels'] == [256, 8] and not found['scopes']


def skip_without_pkg_resources() -> None:
    """Upstream's hub imports pkg_resources, which setuptools has no more since version 81."""
    try:
        mmengine.utils.is_installed('mmsagan')
    except ModuleNotFoundError as error:
        pytest.skip(f"this MMEngine's hub cannot be used here: {error}")
