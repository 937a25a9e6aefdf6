"""Where MMEngine writes checkpoints."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmsagan.utils.files import write_atomically

CRASH_SAFE = 'crash_safe'


class CrashSafeBackend(LocalBackend):
    """This machine's files, as MMEngine's ``'local'`` backend, but written whole or not at all, and flushed to the disk."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes a file; whoever is killed while doing so leaves the one that was there."""
        write_atomically(filepath, obj)


register_backend(CRASH_SAFE, CrashSafeBackend, force=True)
