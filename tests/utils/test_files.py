"""Files that are written whole or not at all."""

import errno
import multiprocessing
import os
import signal
import socket
import stat

import pytest
from launching import fork_server

from mmsagan.errors import ConfigError
from mmsagan.utils import files
from mmsagan.utils.files import remove_unfinished, write_atomically


@pytest.mark.parametrize('function, number', [('fsync', errno.EIO), ('fsync', errno.ENOSPC), ('replace', errno.ENOSPC)])
def test_what_cannot_be_finished_leaves_the_old_file(tmp_path, monkeypatch, function, number):
    path = tmp_path / 'statistics.pkl'
    write_atomically(path, b'old')

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, function, fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_atomically(path, b'new')
    assert path.read_bytes() == b'old' and [other.name for other in tmp_path.iterdir()] == ['statistics.pkl']


@pytest.mark.parametrize('number', [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_syncing(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, 'chmod', fail)  # such file systems may refuse this, too
    monkeypatch.setattr(files.os, 'fsync', fail)
    write_atomically(tmp_path / 'iter_1.pth', b'new')
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {'iter_1.pth': b'new'}


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        order.append('folder' if stat.S_ISDIR(os.fstat(descriptor).st_mode) else 'content')
        fsync(descriptor)

    monkeypatch.setattr(files.os, 'fsync', noted_fsync)
    monkeypatch.setattr(files.os, 'replace', lambda *paths: (order.append('name'), replace(*paths)))
    mask = os.umask(0o027)
    try:
        write_atomically(tmp_path / 'a' / 'file', b'content')
    finally:
        os.umask(mask)
    assert order == ['content', 'name', 'folder']
    assert stat.S_IMODE((tmp_path / 'a' / 'file').stat().st_mode) == 0o640


def _write_and_die(path, moment):
    original = getattr(os, moment)

    def die(*arguments):
        if moment == 'replace':
            original(*arguments)
        os.kill(os.getpid(), 9)

    setattr(files.os, moment, die)
    write_atomically(path, b'new')


@pytest.mark.parametrize('moment, content', [('fsync', b'old'), ('replace', b'new')])
def test_a_kill_while_writing(tmp_path, moment, content):
    path = tmp_path / 'file'
    write_atomically(path, b'old')
    for name in ('file.unfinished', '.notes.unfinished'):
        (tmp_path / name).write_bytes(b'')
    process = multiprocessing.get_context('fork').Process(target=_write_and_die, args=(path, moment))
    process.start()
    process.join()
    assert process.exitcode == -9 and path.read_bytes() == content
    left = remove_unfinished(tmp_path)
    assert len(left) == (moment == 'fsync')
    assert {other.name for other in tmp_path.iterdir()} == {'file', 'file.unfinished', '.notes.unfinished'}


def hold(folder: str, events, forks: bool = False) -> None:
    try:
        with files.lock_folder(folder):
            pid = os.fork() if forks else None  # as a data loader does
            signal.alarm(60)
            if pid != 0:
                events.send(pid)
            signal.pause()
    except ConfigError as error:
        events.send(str(error))


def test_one_process_holds_a_folder(tmp_path):
    """The lock ends with a killed process, and those that it has forked do not hold it."""
    context = fork_server()
    events, child = context.Pipe(duplex=False)
    arguments = (str(tmp_path / 'new'), child)
    first, *others = (context.Process(target=hold, args=(*arguments, forks)) for forks in (True, False, False))
    first.start()
    forked = events.recv()
    others[0].start()
    message = events.recv()
    assert str(tmp_path) in message and f'process {first.pid} on {socket.gethostname()}' in message
    first.kill()
    first.join()
    others[1].start()
    assert events.recv() is None
    others[1].kill()
    os.kill(forked, signal.SIGKILL)


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    messages = []

    def lockf(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, 'lockf', lockf)
    monkeypatch.setattr(files, 'print_log', lambda message, *_: messages.append(message))
    with files.lock_folder(tmp_path):
        assert len(messages) == 1 and f'{tmp_path} cannot be locked ({os.strerror(number)})' in messages[0]
    assert (tmp_path / files.LOCK).read_text() == ''
