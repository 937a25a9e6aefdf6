"""Packaging of MMSAGAN."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name='mmsagan',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'mmsagan' / 'version.py').read_text()).group(1),
    description='Self-Attention GANs as an OpenMMLab project',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    package_data={'mmsagan.evaluation': ['weights/*.pth']},
    packages=find_packages(include=['mmsagan', 'mmsagan.*']),
    python_requires='>=3.10',
    install_requires=[
        'torch>=2.6',
        'numpy>=1.26',
        'filelock>=3.12',
        'pillow>=10',
        'rich>=14.1',
        # Kept-up drop-in forks of mmengine and mmcv, with the same import names.
        'onedl-mmengine>=0.10.10,<0.11',
        'onedl-mmcv>=2.3.5,<3',
    ],
    extras_require={
        'demo': ['mlxtend>=0.23'],
        'tensorboard': ['tensorboard>=2.15'],
        'tests': ['pytest>=8', 'mlxtend>=0.23'],
    },
)
