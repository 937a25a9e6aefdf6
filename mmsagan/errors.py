"""What went wrong that the user can mend.

The tools print these as one message and exit with the class's ``exit_code``, 2 for all but an interrupted training; any other
exception keeps its traceback, since it is a bug of ours.
"""


class MMSAGANError(Exception):
    """Base of all errors that a user can mend: the message says what was wrong, where, and what would be right."""

    exit_code = 2


class ConfigError(MMSAGANError):
    """A config file, a key in it, a type name or an argument value is wrong."""


class DataError(MMSAGANError):
    """A data set is missing, damaged, or disagrees with the model."""


class CheckpointError(MMSAGANError):
    """A checkpoint is missing, damaged, of another architecture, or not safe to load."""


class DownloadError(MMSAGANError):
    """A file cannot be fetched, or is not the one that was asked for."""


class ExportError(MMSAGANError):
    """A model cannot be exported, or the exported file does something else than the model."""


class StorageError(MMSAGANError):
    """Checkpoints cannot be written: the disk is full, read-only or gone."""


class DivergenceError(MMSAGANError):
    """A training has come to losses or gradients that are not finite, and does not find back."""


class TrainingInterrupted(MMSAGANError):
    """A training was told to stop, has saved its state, and can be resumed: no mistake, but not the end either."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later
