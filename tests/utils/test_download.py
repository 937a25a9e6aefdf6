import contextlib
import hashlib
import multiprocessing
import socket
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmsagan.errors import DownloadError
from mmsagan.utils import download
from mmsagan.utils.download import cached_file

CONTENT = bytes(range(256)) * 4000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT as every file; the server's attributes say how it fails."""

    def do_GET(self):
        self.server.requests.append(self.path)
        time.sleep(self.server.delay)
        target = self.server.redirects.get(self.path)
        self.send_response(302 if target else 404 if 'missing' in self.path else 200)
        if target:
            self.send_header('Location', target)
        self.send_header('Content-Length', '0' if target else str(len(CONTENT)))
        self.end_headers()
        if not target:
            with contextlib.suppress(OSError):
                self.wfile.write(CONTENT[: self.server.sent])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.requests, server.redirects, server.delay, server.sent = [], {}, 0, len(CONTENT)
    server.host = f'127.0.0.1:{server.server_port}'
    server.url = f'http://{server.host}/some/file.bin'
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def path(server, tmp_path):
    """Where the server's file goes."""
    path = tmp_path / server.host / 'some' / 'file.bin'
    path.parent.mkdir(parents=True)
    return path


def leftovers(path):
    return {file.name for file in path.parent.iterdir()} - {'file.bin.lock'}


def test_a_file_is_downloaded_once(server, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cached_file(server.url + '?download=true#top', folder='.') == path
    assert path.read_bytes() == CONTENT and leftovers(path) == {'file.bin'} and path.stat().st_mode & 0o777 == 0o644
    assert cached_file(server.url, folder=tmp_path) == path and len(server.requests) == 1
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    assert cached_file(server.url) == tmp_path / 'hub' / 'mmsagan' / path.relative_to(tmp_path)


@pytest.mark.parametrize('pin', [SUM, SUM[:8], SUM[:20].upper()])
def test_the_pinned_sum_and_its_first_digits(server, path, tmp_path, pin):
    assert cached_file(server.url, pin, tmp_path) == path
    assert cached_file(server.url, pin, tmp_path) == path and len(server.requests) == 1


@pytest.mark.parametrize('pin', ['0' * 64, '01234567'])
@pytest.mark.parametrize('by_hand', [False, True])
def test_another_sum_than_the_pinned_one(server, path, tmp_path, pin, by_hand):
    if by_hand:
        path.write_bytes(CONTENT)
    with pytest.raises(DownloadError, match=f'{server.url}.*{pin}.*{SUM}'):
        cached_file(server.url, pin, tmp_path)
    assert leftovers(path) == set()


def test_a_file_put_there_by_hand_is_used(server, path, tmp_path):
    path.write_bytes(b'by hand')
    assert cached_file(server.url, hashlib.sha256(b'by hand').hexdigest(), tmp_path) == path
    assert cached_file(server.url, folder=tmp_path) == path and not server.requests


def test_a_file_that_does_not_arrive_whole_is_no_file(server, path, tmp_path):
    server.sent = len(CONTENT) // 2
    with pytest.raises(DownloadError, match=str(path)):
        cached_file(server.url, folder=tmp_path)
    assert leftovers(path) == set()


def test_a_file_that_is_too_large_is_not_downloaded(server, path, tmp_path, monkeypatch):
    monkeypatch.setattr(download, 'MAX_BYTES', len(CONTENT) - 1)
    with pytest.raises(DownloadError, match=server.url):
        cached_file(server.url, SUM, tmp_path)
    assert leftovers(path) == set()


def test_without_a_network_the_message_names_url_and_path(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with contextlib.closing(socket.create_server(('127.0.0.1', 0))) as closed:
        host = f'127.0.0.1:{closed.getsockname()[1]}'
    with pytest.raises(DownloadError, match=f'https://{host}/some/file.bin .*{tmp_path}/{host}/some/file.bin'):
        cached_file(f'https://{host}/some/file.bin', folder=tmp_path)


def test_a_missing_file_and_a_folder_that_cannot_be_made(server, tmp_path):
    with pytest.raises(DownloadError, match='404.*missing.bin'):
        cached_file(f'http://{server.host}/missing.bin', folder=tmp_path)
    (tmp_path / 'file').touch()
    with pytest.raises(DownloadError, match=f'{tmp_path}/file/'):
        cached_file(server.url, folder=tmp_path / 'file')


@pytest.mark.parametrize(
    'url',
    [
        'http://example.org/a.bin',
        'http://localhost.example.org/a.bin',
        'file:///etc/passwd',
        'https://example.org/folder/',
        'https://example.org/../../a.bin',
        'https://../a.bin',
        'https://user:password@example.org/a.bin',
        'https://example.org/..\\a.bin',
    ],
)
def test_urls_that_are_refused(tmp_path, url):
    with pytest.raises(DownloadError):
        cached_file(url, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_redirect_is_followed_on_this_machine(server, tmp_path):
    server.redirects['/other.bin'] = '/some/file.bin'
    found = cached_file(f'http://{server.host}/other.bin', SUM, tmp_path)
    assert found.name == 'other.bin' and found.read_bytes() == CONTENT


@pytest.mark.parametrize('target', ['http://example.org/a.bin', 'ftp://example.org/a.bin', 'file:///etc/passwd'])
def test_a_redirect_away_from_https_is_refused(server, tmp_path, target):
    server.redirects['/other.bin'] = target
    with pytest.raises(DownloadError, match=target):
        cached_file(f'http://{server.host}/other.bin', folder=tmp_path)


@pytest.mark.parametrize(
    'pool',
    [ThreadPoolExecutor, lambda n: ProcessPoolExecutor(n, mp_context=multiprocessing.get_context('fork'))],
    ids=['threads', 'processes'],
)
def test_of_several_at_once_one_downloads(server, path, tmp_path, pool):
    server.delay = 0.2
    with pool(3) as workers:
        paths = [future.result() for future in [workers.submit(cached_file, server.url, None, tmp_path) for _ in range(3)]]
    assert paths == [path] * 3 and path.read_bytes() == CONTENT and len(server.requests) == 1
