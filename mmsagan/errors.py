"""Errors that a user can fix.

The tools print them as one message and exit with the ``exit_code`` of the class: 2, or 75 if training was interrupted.
Any other exception keeps its traceback, since it is a bug.
"""

from numbers import Integral


class MMSAGANError(Exception):
    """Base class of all errors that a user can fix. The message states what is wrong, where, and the remedy."""

    exit_code = 2


class ConfigError(MMSAGANError):
    """A config file, a key in it, a type name or the value of an argument is wrong."""


class DataError(MMSAGANError):
    """A data set is missing, damaged, or does not fit the model."""


class CheckpointError(MMSAGANError):
    """A checkpoint is missing, damaged, of another architecture, or not safe to load."""


class DownloadError(MMSAGANError):
    """A file cannot be downloaded, or its hash is wrong."""


class ExportError(MMSAGANError):
    """A model cannot be exported, or the exported file computes something else."""


class StorageError(MMSAGANError):
    """Checkpoints cannot be written: the disk is full, read-only or gone."""


class DivergenceError(MMSAGANError):
    """Losses or gradients of a training are not finite any more."""


class TrainingInterrupted(MMSAGANError):
    """Training was stopped by a signal and has saved its state, so that it can be resumed."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


def check_integers(least: int, **arguments: object) -> None:
    """Raises a ConfigError that names the first argument that is not an integer of at least ``least``."""
    for name, value in arguments.items():
        if not isinstance(value, Integral) or value < least:
            raise ConfigError(f'{name} must be an integer of at least {least}, got {value!r:.100}')
