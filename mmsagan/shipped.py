"""Where the files are that come with the package and are not Python modules of it: configs, tools and the model zoo's index."""

from pathlib import Path

from mmsagan.errors import ConfigError

_PACKAGE = Path(__file__).parent


def shipped_root() -> Path:
    """The folder of ``model-index.yml``, ``configs`` and ``tools``: in the package when it is installed, else its repository.

    Raises:
        ConfigError: There is none.
    """
    for folder in (_PACKAGE / '.mim', _PACKAGE.parent):
        if (folder / 'model-index.yml').is_file():
            # An editable install has links to the repository.
            return (folder / 'model-index.yml').resolve().parent
    raise ConfigError(f'{_PACKAGE / ".mim"} has no model-index.yml: the installation is incomplete, install mmsagan again')
