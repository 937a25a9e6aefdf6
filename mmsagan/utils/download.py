"""Fetching files once, whole, and checked."""

import hashlib
import os
import re
import ssl
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

import rich
import torch
from filelock import FileLock
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from mmsagan.errors import ConfigError, DownloadError
from mmsagan.utils.files import write_atomically

URLS = ('https://', 'http://')  # what a URL in a config or on a command line starts with
TIMEOUT = 30
RETRIES = 3
RETRY_WAIT = 2.0
CHUNK = 1 << 18
MAX_BYTES = 1 << 32
# A server that sends less than this in the mean, after a minute, keeps the connection and its client to no end.
SLOWEST, PATIENCE = 1000, 60.0
# How a connection ends that was there before. One that cannot be made at all is a URLError, and is not tried again.
_DROPPED = (ConnectionError, TimeoutError, ssl.SSLError, HTTPException)


def cached_file(url: str, sha256: str | None = None, folder: str | Path | None = None, max_bytes: int = MAX_BYTES) -> Path:
    """Gives the local path of a file on the web, and fetches it on first use.

    Every use compares the file with the pinned sum. Without one, the sum of the first use is recorded beside the file, in
    ``<name>.sha256``, and later uses are compared with that. A file put there by hand is taken like a fetched one. Several
    processes may ask for the same file at once.

    Args:
        url: An ``https://`` URL (``http://`` only on this machine). Its query and fragment are no part of the local name.
        sha256: The pinned sum: all 64 hex digits, or at least the first 8.
        folder: Where files are kept, as ``<folder>/<host>/<path of the URL>``; ``mmsagan`` in torch's hub folder by default.
        max_bytes: What is larger is not fetched, whether the server says so before or not. A file put there by hand may be
            larger.

    Returns:
        The absolute path of the file.

    Raises:
        DownloadError: The URL is refused, the file cannot be fetched or is too large, or its sum is another one.
        ConfigError: ``sha256`` is no sum.
    """
    path = _cache_path(url, folder)
    if sha256 is not None and not re.fullmatch('[0-9a-fA-F]{8,64}', sha256):
        raise ConfigError(f'sha256 {sha256!r} of {url}: give all 64 hex digits of the sum, or at least the first 8')
    pinned = sha256 and sha256.lower()
    try:
        if not _is_ready(path, pinned):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Of several ranks that ask at once, one fetches; the others wait, and then find the file.
            with FileLock(f'{path}.lock'):
                _provide(url, path, pinned, max_bytes)
    except (OSError, HTTPException, ValueError) as error:
        reason = error.reason if type(error) is URLError else error
        raise DownloadError(
            f'{url} cannot be fetched ({reason}); fetch it by other means and put the file to {path}'
        ) from error
    return path


def _cache_path(url: str, folder: str | Path | None) -> Path:
    try:
        parsed = urlsplit(url)
        has_host = bool(parsed.hostname) and parsed.port != 0
    except ValueError as error:
        raise DownloadError(f'{url}: not the URL of a file ({error})') from error
    if not _is_trusted(url):
        raise DownloadError(f'{url}: files are fetched over https only')
    parts = PurePosixPath(parsed.path).parts[1:]
    # Nothing of the URL may lead out of the folder. With "@", a password would become part of a folder's name.
    is_odd = re.search(r'[^!-~]|\\', url) or '@' in parsed.netloc or {'.', '..'} & {parsed.netloc, *parts}
    if is_odd or not has_host or not parts or parsed.path.endswith('/'):
        raise DownloadError(f'{url}: not the URL of a file')
    folder = Path(torch.hub.get_dir(), 'mmsagan') if folder is None else Path(folder)
    return Path(folder.expanduser().absolute(), parsed.netloc.lower(), *parts)


def _is_trusted(url: str) -> bool:
    parsed = urlsplit(url)
    return parsed.scheme == 'https' or (parsed.scheme == 'http' and parsed.hostname in ('localhost', '127.0.0.1'))


def _is_ready(path: Path, pinned: str | None) -> bool:
    """Whether the file is there and good. Needs no lock, and so works in a cache that others own."""
    if not path.is_file():
        return False
    expected = pinned or _recorded_sum(path)
    if expected is None:
        # A first use, which is recorded where that is possible.
        return not os.access(path.parent, os.W_OK)
    return _sum(path).startswith(expected)


def _provide(url: str, path: Path, pinned: str | None, max_bytes: int) -> None:
    """Puts the file in its place, if it is not there, and checks or records its sum."""
    part = _beside(path, '.part')
    is_new = not path.is_file()
    if is_new:
        if pinned is None and not _beside(part, '.version').is_file():
            # Nothing would tell whether the rest belongs to it.
            part.unlink(missing_ok=True)
        try:
            _fetch(url, part, max_bytes)
        except _TooLarge as error:
            part.unlink(missing_ok=True)
            raise DownloadError(
                f'{url} is refused: it has more than {max_bytes / 1e9:.2f} GB ({error}). If it is what you want, fetch it by '
                f'other means and put the file to {path}'
            ) from error
    file = part if is_new else path
    found, recorded = _sum(file), _recorded_sum(path)
    expected = pinned or recorded
    if expected is None:
        # Before the file gets its name: whoever sees the file also sees its sum.
        write_atomically(_beside(path, '.sha256'), f'{found}  {path.name}\n'.encode())
    elif not found.startswith(expected):
        _refuse(url, path, file, f'sha256 {expected} {"expected" if pinned else "recorded"}, {found} found', bool(pinned))
    if is_new:
        os.replace(part, path)


def _refuse(url: str, path: Path, file: Path, sums: str, is_pinned: bool) -> None:
    """Raises for a file with another sum; removes it, unless it may be the user's own change to a file without a pin."""
    record = _beside(path, '.sha256')
    if file == path and not is_pinned:
        raise DownloadError(
            f'{path} was damaged or replaced since its first use: {sums}. Remove it and {record} to have it fetched again'
        )
    file.unlink()
    remedy = 'It was damaged, or it is not the file that was published; try again, or ask who published it'
    if not is_pinned:
        remedy = f'The file at this URL has changed since its first use; if that is expected, remove {record}'
    raise DownloadError(f'{url}: {sums}; {file} is removed. {remedy}')


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _recorded_sum(path: Path) -> str | None:
    record = _beside(path, '.sha256')
    if not record.is_file():
        return None
    found = re.match(r'[0-9a-f]{64}\b', record.read_text(errors='replace'))
    if not found:
        raise DownloadError(f'{record} holds no sha256 sum; remove it to have the sum of {path.name} recorded again')
    return found.group()


class _TrustedRedirects(HTTPRedirectHandler):
    """Follows redirects to https only, and on this machine from http to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if not _is_trusted(newurl) or (req.type == 'https' and urlsplit(newurl).scheme != 'https'):
            raise DownloadError(f'{req.full_url} redirects to {newurl}, which is refused: files are fetched over https only')
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _TooLarge(Exception):
    """There are more bytes than may be fetched."""


def _fetch(url: str, part: Path, max_bytes: int) -> None:
    """Fetches into ``part``; goes on where an earlier attempt ended."""
    for file in (part, _beside(part, '.version')):
        if file.is_symlink():  # somebody else's: writing would change a file anywhere
            file.unlink()
    console = rich.get_console()
    columns = TextColumn('{task.description}'), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(part.stem, total=None)
        for retries_left in reversed(range(RETRIES + 1)):
            try:
                _attempt(url, part, max_bytes, lambda done, total: progress.update(task, completed=done, total=total))
                break
            except _DROPPED:
                if not retries_left:
                    raise
            time.sleep(RETRY_WAIT)
    with open(part, 'r+b') as file:
        os.fsync(file.fileno())
    _beside(part, '.version').unlink(missing_ok=True)


def _attempt(url: str, part: Path, max_bytes: int, show: Callable[[int, int | None], None]) -> None:
    size = part.stat().st_size if part.is_file() else 0
    version = _beside(part, '.version')
    headers = {'User-Agent': 'mmsagan'}
    if size:
        headers['Range'] = f'bytes={size}-'
    if size and version.is_file():
        # The server sends the whole file, if it is no longer the one that the part is from.
        headers['If-Range'] = version.read_text()
    try:
        with build_opener(_TrustedRedirects).open(Request(url, headers=headers), timeout=TIMEOUT) as response:
            _receive(response, part, size, max_bytes, show)
    except HTTPError as error:
        if error.code != 416 or not size:
            raise
        if error.headers.get('Content-Range') != f'bytes */{size}':
            part.unlink()
            raise ConnectionError('the part that was fetched earlier is none of this file') from error


def _receive(response: HTTPResponse, part: Path, size: int, max_bytes: int, show: Callable[[int, int | None], None]) -> None:
    """Appends the answer to the part, or starts the part anew if the server sends the whole file."""
    if response.status == 206:
        # The server may send less than the rest: the whole file's length is what counts.
        sent = re.fullmatch(r'bytes (\d+)-\d+/(\d+)', response.headers.get('Content-Range', ''))
        if not sent or int(sent[1]) != size:
            part.unlink(missing_ok=True)
            raise ConnectionError('the server sent another part of the file than was asked for')
        total = int(sent[2])
    elif response.status == 200:
        size, total = 0, response.length
        part.unlink(missing_ok=True)
        _keep_version(response, _beside(part, '.version'))
    else:
        raise OSError(f'HTTP status {response.status} {response.reason}')
    if total is not None and total > max_bytes:
        raise _TooLarge(f'the server says {total} bytes')
    begun, start = time.monotonic(), size
    with open(part, 'ab') as file:
        # What is there, and not a full chunk, which could be waited for one byte at a time.
        while chunk := response.read1(CHUNK):
            size += len(chunk)
            if size > max_bytes:
                raise _TooLarge('and the server goes on sending')
            file.write(chunk)
            show(size, total)
            seconds = time.monotonic() - begun
            if seconds > PATIENCE and size - start < SLOWEST * seconds:
                raise TimeoutError(f'{size - start} bytes arrived in {seconds:.0f} seconds')
    if total is not None and size != total:
        raise ConnectionError(f'{size} of {total} bytes arrived')


def _keep_version(response: HTTPResponse, file: Path) -> None:
    """Writes down what the server calls this version of the file. Weak tags do not vouch for every byte."""
    tag = response.headers.get('ETag', 'W/')
    version = response.headers.get('Last-Modified') if tag.startswith('W/') else tag
    file.unlink(missing_ok=True)
    if version:
        file.write_text(version)
