"""``python -m mmsagan`` is the command ``mmsagan``, also for torchrun: ``torchrun --standalone -m mmsagan train …``."""

from mmsagan.cli.main import main

if __name__ == '__main__':
    main()
