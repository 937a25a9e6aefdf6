import contextlib
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mmsagan.errors import DownloadError
from mmsagan.utils.download import cached_file

CONTENT = bytes(range(256)) * 4000
SUM = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
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
    server.requests, server.redirects, server.sent = [], {}, len(CONTENT)
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
    path = tmp_path / server.host / 'some' / 'file.bin'
    path.parent.mkdir(parents=True)
    return path


def leftovers(path):
    return {file.name for file in path.parent.iterdir()} - {'file.bin.lock'}


def test_a_file_is_downloaded_once(server, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cached_file(server.url + '?download=true#top', folder='.') == path
    assert path.read_bytes() == CONTENT and leftovers(path) == {'file.bin'} and path.stat().st_mode & 0o777 == 0o644
    for pin in (None, SUM, SUM[:20].upper()):
        assert cached_file(server.url, pin, folder=tmp_path) == path and len(server.requests) == 1
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    assert cached_file(server.url) == tmp_path / 'hub' / 'mmsagan' / path.relative_to(tmp_path)


@pytest.mark.parametrize('by_hand', [False, True])
def test_another_sum_than_the_pinned_one(server, path, tmp_path, by_hand):
    if by_hand:
        path.write_bytes(CONTENT)
    with pytest.raises(DownloadError, match=f'{server.url}.*01234567.*{SUM}'):
        cached_file(server.url, '01234567', tmp_path)
    assert leftovers(path) == set()


def test_a_file_put_there_by_hand_is_used(server, path, tmp_path):
    path.write_bytes(b'by hand')
    assert cached_file(server.url, hashlib.sha256(b'by hand').hexdigest(), tmp_path) == path
    assert cached_file(server.url, folder=tmp_path) == path and not server.requests


def test_files_that_do_not_arrive_whole(server, path, tmp_path):
    server.sent = len(CONTENT) // 2
    with pytest.raises(DownloadError, match=server.url):
        cached_file(server.url, folder=tmp_path)
    assert leftovers(path) == set()


def test_without_a_network_the_message_names_url_and_path(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with contextlib.closing(socket.create_server(('127.0.0.1', 0))) as closed:
        host = f'127.0.0.1:{closed.getsockname()[1]}'
    with pytest.raises(DownloadError, match=f'https://{host}/some/file.bin .*{tmp_path}/{host}/some/file.bin'):
        cached_file(f'https://{host}/some/file.bin', folder=tmp_path)


@pytest.mark.parametrize(
    'url',
    [
        'http://localhost.example.org/a.bin',
        'file:///etc/passwd',
        'https://example.org/folder/',
        'https://example.org/../../a.bin',
        'https://user:password@example.org/a.bin',
    ],
)
def test_urls_that_are_refused(tmp_path, url):
    with pytest.raises(DownloadError):
        cached_file(url, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('target', [None, 'http://example.org/a.bin', 'file:///etc/passwd'])
def test_redirects_are_followed_on_this_machine_and_to_https(server, tmp_path, target):
    server.redirects['/other.bin'] = target or '/some/file.bin'
    if target is None:
        found = cached_file(f'http://{server.host}/other.bin', SUM, tmp_path)
        assert found.name == 'other.bin' and found.read_bytes() == CONTENT
    else:
        with pytest.raises(DownloadError, match=target):
            cached_file(f'http://{server.host}/other.bin', folder=tmp_path)
