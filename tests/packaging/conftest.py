"""The package's own wheel, and a Python that has it installed and no other copy of the package."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine
import pytest
from building import ROOT, copy_sources, run


def pytest_collection_modifyitems(items):
    """``make test-wheel`` runs the suite in a folder without the package's sources, from which nothing can be built."""
    if not (ROOT / 'mmsagan').is_dir():
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason='the package is built from its sources, which are not here'))


@pytest.fixture(scope='session')
def sources(tmp_path_factory) -> Path:
    """As a wheel's build has left them."""
    return copy_sources(tmp_path_factory.mktemp('sources'))


@pytest.fixture(scope='session')
def wheel(sources, tmp_path_factory) -> Path:
    """Built by ``pip wheel .``, without a network."""
    out = tmp_path_factory.mktemp('wheel')
    options = '--no-deps', '--no-build-isolation', '--no-cache-dir', '--disable-pip-version-check', '--wheel-dir', out
    run('-m', 'pip', 'wheel', *options, '.', cwd=sources)
    return next(out.glob('*.whl'))


@pytest.fixture(scope='session')
def site_packages(wheel, tmp_path_factory) -> Path:
    """The wheel, as pip unpacks it."""
    folder = tmp_path_factory.mktemp('site-packages')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def run_installed(site_packages, tmp_path) -> Callable[[str], str]:
    """Runs code in a Python that has this installation and no other of the package, in an empty folder; gives its output."""
    # -S keeps the environment's own .pth files out, and with them an editable installation of this package.
    start = (
        f'import json, site, sys; site.addsitedir({str(site_packages)!r}); '
        f'sys.path.append({str(Path(mmengine.__file__).parent.parent)!r})\n'
    )
    return lambda code: run('-I', '-S', '-c', start + code, cwd=tmp_path)


@pytest.fixture
def installed(run_installed) -> Callable[[str], Any]:
    """As ``run_installed``, and gives the last line that it prints, a JSON value."""
    return lambda code: json.loads(run_installed(code).splitlines()[-1])
