"""Building the package from a copy of its sources."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SHIPPED = ('configs', 'tools', 'model-index.yml')
SOURCES = (*SHIPPED, 'mmsagan', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE')


def copy_sources(folder: Path) -> Path:
    """A copy of what a wheel is built from, since a build leaves things beside it."""
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def run(*arguments, cwd: Path) -> str:
    result = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def build(kind: str, sources: Path, out: Path) -> Path:
    """Builds by setuptools' own functions, as pip calls them: a ``wheel``, an ``sdist``, or the Makefile's ``editable``."""
    settings = dict(editable_mode='compat') if kind == 'editable' else None
    script = f'from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}, config_settings={settings}))'
    return out / run('-c', script, cwd=sources).splitlines()[-1]


def shipped_files() -> set[str]:
    files = [path for name in SHIPPED for path in (ROOT / name, *(ROOT / name).rglob('*')) if path.is_file()]
    return {path.relative_to(ROOT).as_posix() for path in files if '__pycache__' not in path.parts}
