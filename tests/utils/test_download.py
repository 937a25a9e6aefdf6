import contextlib
import hashlib
import io
import multiprocessing
import re
import socket
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import rich
from rich.console import Console

from mmsagan.errors import ConfigError, DownloadError
from mmsagan.utils import download
from mmsagan.utils.download import cached_file

CONTENT = bytes(range(256)) * 4000
SUM = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT as every file; the server's attributes say what it can and how it fails."""

    def do_GET(self):
        server, wanted = self.server, self.headers['Range']
        server.requests.append((self.path, wanted))
        if self.path in server.redirects:
            self.answer(302, b'', Location=server.redirects[self.path])
            return
        if 'missing' in self.path:
            self.answer(404, b'')
            return
        time.sleep(server.delay)
        if server.pieces:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # the client has had enough
                for piece in server.pieces():
                    self.wfile.write(piece)
            return
        is_stale = self.headers['If-Range'] not in (None, server.tag)
        if not wanted or is_stale or not server.knows_ranges:
            self.answer(200, server.content, ETag=server.tag)
            return
        start, size = int(re.fullmatch(r'bytes=(\d+)-', wanted)[1]) + server.shift, len(server.content)
        if start >= size:
            self.answer(416, b'', **{'Content-Range': f'bytes */{size}'})
            return
        stop = min(size, start + server.largest_range)
        self.answer(206, server.content[start:stop], **{'Content-Range': f'bytes {start}-{stop - 1}/{size}'})

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {'Content-Length': str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        is_dropped = body and self.server.drops > 0
        self.server.drops -= 1
        # The connection ends with the handler: what is missing then never comes.
        self.wfile.write(body[: len(body) // 2] if is_dropped else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(download, 'RETRY_WAIT', 0)
    server = ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.requests, server.redirects, server.content, server.tag = [], {}, CONTENT, '"1"'
    server.knows_ranges, server.largest_range, server.shift, server.drops, server.delay = True, 10**9, 0, 0, 0
    server.pieces = None  # gives what is sent in place of the content, without saying how much it is
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


def beside(path, suffix):
    return path.with_name(path.name + suffix)


def leftovers(path):
    return {file.name for file in path.parent.iterdir()} - {'file.bin.lock'}


def test_a_file_is_fetched_once_and_its_sum_is_recorded(server, path, tmp_path):
    assert cached_file(server.url + '?download=true#top', folder=tmp_path) == path
    assert path.read_bytes() == CONTENT
    assert beside(path, '.sha256').read_text() == f'{SUM}  file.bin\n'
    assert leftovers(path) == {'file.bin', 'file.bin.sha256'}
    assert cached_file(server.url, folder=tmp_path) == path and len(server.requests) == 1


def test_the_default_folder_is_in_torchs_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    assert cached_file(server.url) == tmp_path / 'hub' / 'mmsagan' / server.host / 'some' / 'file.bin'


def test_a_relative_folder_gives_an_absolute_path(server, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cached_file(server.url, folder='.') == path


def test_only_the_rest_is_asked_for(server, path, tmp_path):
    beside(path, '.part').write_bytes(CONTENT[:1000])
    cached_file(server.url, SUM, tmp_path)
    assert path.read_bytes() == CONTENT and server.requests == [('/some/file.bin', 'bytes=1000-')]


def test_a_server_without_ranges_sends_the_file_anew(server, path, tmp_path):
    server.knows_ranges = False
    beside(path, '.part').write_bytes(b'something else')
    cached_file(server.url, SUM, tmp_path)
    assert path.read_bytes() == CONTENT and len(server.requests) == 1


def test_a_complete_part_needs_no_more_bytes(server, path, tmp_path):
    beside(path, '.part').write_bytes(CONTENT)
    cached_file(server.url, SUM, tmp_path)
    assert path.read_bytes() == CONTENT and server.requests == [('/some/file.bin', f'bytes={len(CONTENT)}-')]


def test_a_part_longer_than_the_file_is_dropped(server, path, tmp_path):
    beside(path, '.part').write_bytes(CONTENT + b'more')
    cached_file(server.url, SUM, tmp_path)
    assert path.read_bytes() == CONTENT and server.requests[-1] == ('/some/file.bin', None)


def test_a_part_of_no_known_version_is_gone_on_with_only_to_a_pinned_sum(server, path, tmp_path):
    """Without one, nothing would tell that the file is made of two."""
    beside(path, '.part').write_bytes(bytes(1000))
    cached_file(server.url, folder=tmp_path)
    assert path.read_bytes() == CONTENT and server.requests == [('/some/file.bin', None)]


def test_a_file_that_is_too_large_is_not_fetched(server, path, tmp_path):
    with pytest.raises(DownloadError, match=f'more than 0.00 GB .*says {len(CONTENT)} bytes.*put the file to {path}'):
        cached_file(server.url, SUM, tmp_path, max_bytes=len(CONTENT) - 1)
    assert leftovers(path) <= {'file.bin.part.version'} and len(server.requests) == 1
    assert cached_file(server.url, SUM, tmp_path, max_bytes=len(CONTENT)).read_bytes() == CONTENT


def test_the_rest_of_a_file_that_is_too_large(server, path, tmp_path):
    beside(path, '.part').write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadError, match=f'says {len(CONTENT)} bytes'):
        cached_file(server.url, SUM, tmp_path, max_bytes=len(CONTENT) - 1)
    assert not beside(path, '.part').exists()


def test_a_server_that_does_not_stop_sending(server, path, tmp_path):
    server.pieces = lambda: (bytes(10_000) for _ in range(10_000))
    with pytest.raises(DownloadError, match='the server goes on sending'):
        cached_file(server.url, folder=tmp_path, max_bytes=100_000)
    assert not path.exists() and not beside(path, '.part').exists() and len(server.requests) == 1


def test_a_server_that_sends_a_byte_now_and_then(server, path, tmp_path, monkeypatch):
    monkeypatch.setattr(download, 'PATIENCE', 0.1)
    server.pieces = lambda: (time.sleep(0.03) or b'.' for _ in range(1000))
    begun = time.monotonic()
    with pytest.raises(DownloadError, match='bytes arrived in 0 seconds'):
        cached_file(server.url, folder=tmp_path)
    assert time.monotonic() - begun < 10 and len(server.requests) == 1 + download.RETRIES


@pytest.mark.parametrize('suffix', ['.part', '.part.version'])
def test_links_in_the_cache_are_not_written_through(server, path, tmp_path, suffix):
    (tmp_path / 'precious').write_text('mine')
    beside(path, suffix).symlink_to(tmp_path / 'precious')
    assert cached_file(server.url, SUM, tmp_path).read_bytes() == CONTENT
    assert (tmp_path / 'precious').read_text() == 'mine' and not path.is_symlink()


def test_a_host_by_any_case_is_one(tmp_path):
    (tmp_path / 'example.org').mkdir()
    (tmp_path / 'example.org' / 'a.bin').write_bytes(CONTENT)
    assert cached_file('https://Example.ORG/a.bin', SUM, tmp_path) == tmp_path / 'example.org' / 'a.bin'


def test_a_part_of_an_older_version_is_dropped(server, path, tmp_path):
    server.drops = 100
    with pytest.raises(DownloadError):
        cached_file(server.url, folder=tmp_path)
    server.content, server.tag, server.drops = CONTENT[::-1], '"2"', 0
    cached_file(server.url, folder=tmp_path)
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize('knows_ranges', [True, False])
def test_a_dropped_connection_is_made_up_for(server, path, tmp_path, knows_ranges):
    server.drops, server.knows_ranges = 1, knows_ranges
    cached_file(server.url, SUM, tmp_path)
    assert path.read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, f'bytes={HALF}-']


def test_a_file_in_pieces_is_put_together(server, path, tmp_path):
    """A server may send less of the rest than was asked for."""
    server.largest_range, server.drops = HALF // 2, 1
    cached_file(server.url, SUM, tmp_path)
    assert path.read_bytes() == CONTENT and len(server.requests) == 3


def test_a_file_that_never_arrives_whole_is_no_file(server, path, tmp_path):
    server.drops, server.knows_ranges = 100, False
    with pytest.raises(DownloadError, match=f'{HALF} of {len(CONTENT)} bytes arrived'):
        cached_file(server.url, folder=tmp_path)
    assert len(server.requests) == 1 + download.RETRIES
    assert not path.exists() and not beside(path, '.sha256').exists()


def test_a_wrong_piece_is_not_appended(server, path, tmp_path):
    # From the start instead of byte 1000, and as many bytes as are missing.
    server.shift, server.largest_range = -1000, len(CONTENT) - 1000
    beside(path, '.part').write_bytes(CONTENT[:1000])
    cached_file(server.url, SUM, tmp_path)
    assert path.read_bytes() == CONTENT and server.requests[-1] == ('/some/file.bin', None)


@pytest.mark.parametrize('pin', [SUM, SUM[:8], SUM[:20].upper()])
def test_the_pinned_sum_and_its_beginning(server, path, tmp_path, pin):
    assert cached_file(server.url, pin, tmp_path) == path
    assert cached_file(server.url, pin, tmp_path) == path and len(server.requests) == 1


@pytest.mark.parametrize('pin', ['0' * 64, '01234567'])
@pytest.mark.parametrize('by_hand', [False, True])
def test_another_sum_than_the_pinned_one(server, path, tmp_path, pin, by_hand):
    if by_hand:
        path.write_bytes(CONTENT)
    with pytest.raises(DownloadError, match=f'{server.url}: sha256 {pin} expected, {SUM} found.*removed'):
        cached_file(server.url, pin, tmp_path)
    assert leftovers(path) == set()


@pytest.mark.parametrize('pin', ['', '1234567', 'no sum at all', SUM + '0'])
def test_what_is_no_sum(server, tmp_path, pin):
    with pytest.raises(ConfigError, match='64 hex digits'):
        cached_file(server.url, pin, tmp_path)
    assert not server.requests


def test_damage_is_found_on_later_use(server, path, tmp_path):
    cached_file(server.url, folder=tmp_path)
    path.write_bytes(CONTENT[:-1] + b'?')
    with pytest.raises(DownloadError, match=f'{path} was damaged or replaced.*Remove it and {path}.sha256'):
        cached_file(server.url, folder=tmp_path)
    path.unlink()
    beside(path, '.sha256').unlink()
    assert cached_file(server.url, folder=tmp_path).read_bytes() == CONTENT


def test_the_record_outlives_the_file(server, path, tmp_path):
    cached_file(server.url, folder=tmp_path)
    path.unlink()
    server.content = b'another file'
    with pytest.raises(DownloadError, match=f'has changed since its first use.*remove {path}.sha256'):
        cached_file(server.url, folder=tmp_path)
    assert leftovers(path) == {'file.bin.sha256'}


@pytest.mark.parametrize('record', ['', 'no sum', SUM[:8], SUM + '0'])
def test_a_damaged_record(server, path, tmp_path, record):
    path.write_bytes(CONTENT)
    beside(path, '.sha256').write_text(record)
    with pytest.raises(DownloadError, match='file.bin.sha256 holds no sha256 sum; remove it'):
        cached_file(server.url, folder=tmp_path)


def test_a_file_put_there_by_hand_is_taken(server, path, tmp_path):
    path.write_bytes(b'by hand')
    assert cached_file(server.url, hashlib.sha256(b'by hand').hexdigest(), tmp_path) == path
    assert leftovers(path) == {'file.bin'}, 'a pinned sum needs no record'
    assert cached_file(server.url, folder=tmp_path) == path
    assert beside(path, '.sha256').read_text().startswith(hashlib.sha256(b'by hand').hexdigest())
    assert not server.requests


def test_a_cache_that_others_own(server, path, tmp_path, monkeypatch):
    """What cannot be written need not be: tests may run as root, for whom every folder is writable."""
    path.write_bytes(b'by hand')
    monkeypatch.setattr(download.os, 'access', lambda folder, mode: False)
    assert cached_file(server.url, folder=tmp_path) == path and leftovers(path) == {'file.bin'}


def test_without_a_network_the_message_names_url_and_path(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    with contextlib.closing(socket.create_server(('127.0.0.1', 0))) as closed:
        host = f'127.0.0.1:{closed.getsockname()[1]}'
    with pytest.raises(DownloadError, match='refused') as info:
        cached_file(f'https://{host}/some/file.bin', folder=tmp_path)
    assert f'https://{host}/some/file.bin cannot be fetched' in str(info.value)
    assert f'put the file to {tmp_path}/{host}/some/file.bin' in str(info.value)


def test_the_status_of_a_refusal_is_named(server, tmp_path):
    with pytest.raises(DownloadError, match='404.*put the file to'):
        cached_file(f'http://{server.host}/missing.bin', folder=tmp_path)
    assert len(server.requests) == 1, 'what is not there is not asked for again'


def test_a_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(DownloadError, match='put the file to'):
        cached_file(server.url, folder=tmp_path / 'file')


@pytest.mark.parametrize('url', ['http://example.org/a.bin', 'file:///etc/passwd', 'ftp://example.org/a.bin', '/etc/passwd'])
def test_other_ways_than_https_are_refused(tmp_path, url):
    with pytest.raises(DownloadError, match='over https only'):
        cached_file(url, folder=tmp_path)


@pytest.mark.parametrize(
    'url',
    [
        'https://example.org',
        'https://example.org/folder/',
        'https://example.org/../../a.bin',
        'https://../a.bin',
        'https:///a.bin',
        'https://example.org:port/a.bin',
        'https://[example.org/a.bin',
        'https://user:password@example.org/a.bin',
        'https://example.org/..\\a.bin',
        'https://example.org/a b.bin',
    ],
)
def test_urls_that_name_no_file_of_the_cache(tmp_path, url):
    with pytest.raises(DownloadError, match='not the URL of a file'):
        cached_file(url, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_redirect_is_followed_on_this_machine(server, path, tmp_path):
    server.redirects['/other.bin'] = '/some/file.bin'
    found = cached_file(f'http://{server.host}/other.bin', SUM, tmp_path)
    assert found.name == 'other.bin' and found.read_bytes() == CONTENT


@pytest.mark.parametrize('target', ['http://example.org/a.bin', 'ftp://example.org/a.bin', 'file:///etc/passwd'])
def test_a_redirect_away_from_https_is_refused(server, tmp_path, target):
    server.redirects['/other.bin'] = target
    with pytest.raises(DownloadError, match='(?i)redirect.*(refused|not allowed)'):
        cached_file(f'http://{server.host}/other.bin', folder=tmp_path)


def test_a_redirect_from_the_web_to_this_machine_is_refused():
    request = download.Request('https://example.org/a.bin')
    with pytest.raises(DownloadError, match='refused'):
        download._TrustedRedirects().redirect_request(request, None, 302, 'Found', {}, 'http://localhost/a.bin')


@pytest.mark.parametrize(
    'pool',
    [ThreadPoolExecutor, lambda n: ProcessPoolExecutor(n, mp_context=multiprocessing.get_context('fork'))],
    ids=['threads', 'processes'],
)
def test_of_several_at_once_one_fetches(server, path, tmp_path, pool):
    server.delay = 0.2
    with pool(3) as workers:
        paths = [future.result() for future in [workers.submit(cached_file, server.url, None, tmp_path) for _ in range(3)]]
    assert paths == [path] * 3 and path.read_bytes() == CONTENT and len(server.requests) == 1


@pytest.mark.parametrize('is_terminal', [True, False])
def test_a_bar_is_shown_on_terminals_only(server, tmp_path, monkeypatch, is_terminal):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=100)
    monkeypatch.setattr(rich, 'get_console', lambda: console)
    cached_file(server.url, folder=tmp_path)
    assert ('file.bin' in console.file.getvalue()) == is_terminal
