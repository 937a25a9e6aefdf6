"""Files that are written whole or not at all."""

import errno
import multiprocessing
import os
import stat

import pytest

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


@pytest.mark.parametrize('chmod', [errno.EPERM, errno.EACCES, errno.ENOTSUP])
@pytest.mark.parametrize('fsync', [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_modes_and_syncing(tmp_path, monkeypatch, chmod, fsync):
    def fail(number):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, 'chmod', lambda *_: fail(chmod))
    monkeypatch.setattr(files.os, 'fsync', lambda *_: fail(fsync))
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
    write_atomically(tmp_path / 'a' / 'file', b'content')
    assert order == ['content', 'name', 'folder']
    assert stat.S_IMODE((tmp_path / 'a' / 'file').stat().st_mode) == 0o666 & ~files._UMASK


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
