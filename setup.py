"""Adds to a build what pyproject.toml cannot express: ``mmsagan/.mim`` with configs, tools and the model zoo's index."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


class BuildWithConfigs(build_py):
    """Fills ``mmsagan/.mim``, where MMEngine's hub looks: with copies, or with links for an editable install."""

    def run(self):
        super().run()
        mim = (ROOT if self.editable_mode else Path(self.build_lib)) / 'mmsagan' / '.mim'
        shutil.rmtree(mim, ignore_errors=True)  # files of an earlier build
        mim.mkdir(parents=True)
        for name in ('configs', 'tools', 'model-index.yml'):
            if self.editable_mode:
                (mim / name).symlink_to(Path('..', '..', name))
            elif (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, mim / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy(ROOT / name, mim)


setup(cmdclass={'build_py': BuildWithConfigs})
