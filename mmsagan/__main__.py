"""``python -m mmsagan`` is the command ``mmsagan``, also for torchrun: ``torchrun --nproc_per_node=8 -m mmsagan train …``."""

from mmsagan.cli.main import main

if __name__ == '__main__':
    main()
