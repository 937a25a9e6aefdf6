"""What went wrong that the user can mend.

The tools print these as one message and exit with code 2; any other exception keeps its traceback, since it is a bug of
ours.
"""


class MMSAGANError(Exception):
    """Base of all errors that a user can mend: the message says what was wrong, where, and what would be right."""


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
