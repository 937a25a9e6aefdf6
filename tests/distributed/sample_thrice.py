"""Runs tools/sample.py once for each kind of output, in the processes that torchrun has started; for test_dist_sample.py.

Usage: torchrun --nproc-per-node N sample_thrice.py OUT [arguments of tools/sample.py]
"""

import runpy
import sys
from pathlib import Path

TOOL = Path(__file__).parent.parent.parent / 'tools' / 'sample.py'


def sample_thrice(out: str, *arguments: str) -> None:
    for kind in (['--out', f'{out}/files'], ['--out', f'{out}/npz', '--npz'], ['--out', f'{out}/grid.png']):
        sys.argv = ['sample.py', *arguments, *kind]
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as end:
            if end.code:
                raise


if __name__ == '__main__':
    sample_thrice(*sys.argv[1:])
