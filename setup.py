"""Adds to a build what pyproject.toml cannot express.

``mmsagan/.mim`` gets configs, tools and the model zoo's index. A package index shows the README without the files that it links
to: if the environment has ``REPOSITORY``, the URL of the repository's page, the links lead there, to the tag of this version.
"""

import os
import re
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


def read_readme(repository: str) -> str:
    """Returns the README, with links to files of the repository as URLs below its page."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    version = re.search(r"__version__ = '(.+)'", (ROOT / 'mmsagan' / '__init__.py').read_text(encoding='utf-8'))[1]
    text = re.sub(r'\]\((?!https?:|#)', f']({repository}/blob/v{version}/', text)
    return re.sub(r'src="(?!https?:)', f'src="{repository}/raw/v{version}/', text)


repository = os.environ.get('REPOSITORY', '').rstrip('/')
readme = read_readme(repository) if repository else (ROOT / 'README.md').read_text(encoding='utf-8')
setup(
    cmdclass={'build_py': BuildWithConfigs},
    long_description=readme,
    long_description_content_type='text/markdown',
    project_urls={'Source': repository, 'Changelog': f'{repository}/blob/main/CHANGELOG.md'} if repository else {},
)
