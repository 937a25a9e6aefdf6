"""Cached downloads: URLs, checked by their sha256, and files of the Hugging Face Hub."""

import re
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urljoin, urlsplit

import rich
import torch
from filelock import FileLock
from rich.progress import DownloadColumn, Progress

from mmsagan import __version__
from mmsagan.errors import DownloadError
from mmsagan.utils import import_optional
from mmsagan.utils.files import where_supported

URLS = ('https://', 'http://')  # how a URL in a config or on a command line starts
HUB = 'hf://'
_REPOSITORY = re.compile(r'hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?')
# Host and path become folders of the cache. Plain http is for servers on this machine.
_URL = re.compile(
    r'(?:https://|http://(?=localhost[:/]|127\.0\.0\.1[:/]))([\w.-]+(?::\d+)?)((?:/[^/\\?#\s]+)+)(?:[?#].*)?', re.A
)


def cached_file(url: str, sha256: str | None = None, folder: str | Path | None = None) -> Path:
    """Returns the local path of a file on the web, https only, and downloads it on first use.

    In ``folder``, by default ``mmsagan`` in torch's hub folder, it is ``<host>/<path of the URL>``, also if it was put there by
    hand. It is compared with its ``sha256``, or the first digits of it. Several processes download it once.
    """
    import pooch  # takes a while, and most processes download nothing

    def check(response, **_) -> None:
        target = urljoin(response.url, response.headers.get('location', ''))
        if not target.startswith('https://') and urlsplit(target)[:2] != urlsplit(response.url)[:2]:
            raise DownloadError(f'{response.url} redirects to {target}; only redirects to https are followed')

    matched = _URL.fullmatch(url)
    parts = [matched[1].lower(), *matched[2].split('/')[1:]] if matched else ['..']
    if {'.', '..'} & set(parts):
        raise DownloadError(f'{url}: not the URL of a file (https://)')
    path = Path(Path(torch.hub.get_dir(), 'mmsagan') if folder is None else folder, *parts).absolute()
    try:
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            columns = *Progress.get_default_columns(), DownloadColumn()
            with FileLock(f'{path}.lock'), Progress(*columns, disable=not rich.get_console().is_terminal) as progress:
                task = progress.add_task(path.name, total=None)
                bar = SimpleNamespace(total=0, reset=lambda: progress.reset(task), close=lambda: None)
                bar.update = lambda size: progress.update(task, advance=size, total=bar.total or None)
                downloader = pooch.HTTPDownloader(bar, chunk_size=1 << 18, hooks=dict(response=check))
                # Into a temporary file, which it renames.
                pooch.retrieve(url, None, path.name, path.parent, downloader=downloader)
            where_supported(path.chmod, 0o644)  # temporary files are for their owner's eyes only
        found = pooch.file_hash(str(path))
    except (OSError, ValueError) as error:
        place = f'{path} (the environment variable TORCH_HOME moves that folder)'
        raise DownloadError(f'{url} cannot be downloaded ({error}); put the file there by other means: {place}') from error
    if not found.startswith((sha256 or '').lower()):
        path.unlink(missing_ok=True)
        raise DownloadError(f'{url}: sha256 {sha256} expected, {found} found; {path} was deleted')
    return path


def split_repository(source: str) -> tuple[str, str | None]:
    """Returns the ``user/repo`` of a ``hf://user/repo@revision``, and its revision if it has one."""
    matched = _REPOSITORY.fullmatch(source)
    if not matched:
        raise DownloadError(f'{source} is not a repository name; expected hf://user/repo or hf://user/repo@revision')
    return matched[1], matched[2]


def hub_file(source: str, name: str) -> Path:
    """Returns the local path of a file of a repository on the Hugging Face Hub, and downloads it on first use.

    ``source`` is ``hf://user/repo``, or ``hf://user/repo@revision``. Cache, tokens and offline mode are ``huggingface_hub``'s.
    """
    repository, revision = split_repository(source)
    huggingface_hub = import_optional('huggingface_hub', 'hub')
    try:
        library = dict(library_name='mmsagan', library_version=__version__)
        return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision, **library))
    except Exception as error:  # also those of the HTTP library beneath
        reason = ' '.join(str(error).split())[:300] or type(error).__name__
        remedy = 'a private repository needs the token of `hf auth login`, or HF_TOKEN'
        raise DownloadError(f'{source}: {name} cannot be downloaded ({reason}); {remedy}') from error
