"""Runs tools/sample.py once for each kind of output, in the processes that torchrun has started; for test_dist_sample.py.

All processes but the first are slow to go on after they have met.

Usage: torchrun --nproc-per-node N sample_thrice.py OUT [arguments of tools/sample.py]
"""

import os
import runpy
import sys
import time
from pathlib import Path

from mmengine.dist import barrier

from mmsagan.apis import sampling

TOOL = Path(__file__).parent.parent.parent / 'tools' / 'sample.py'


def sample_thrice(out: str, *arguments: str) -> None:
    for kind in (['--out', f'{out}/files'], ['--out', f'{out}/npz', '--npz'], ['--out', f'{out}/grid.png']):
        sys.argv = ['sample.py', *arguments, *kind]
        try:
            runpy.run_path(str(TOOL), run_name='__main__')
        except SystemExit as end:
            if end.code:
                raise


def meet_and_linger() -> None:
    barrier()
    time.sleep(0.3)


if __name__ == '__main__':
    if os.environ['RANK'] != '0':
        sampling.barrier = meet_and_linger
    sample_thrice(*sys.argv[1:])
