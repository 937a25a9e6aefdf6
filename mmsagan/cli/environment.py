"""What a process may find missing: the reader of its output, a home folder, the name of its user."""

import errno
import getpass
import io
import os
import sys


class _StandardStream(io.FileIO):
    """Drops what is written after the reader has gone, as with ``tool | head`` or a terminal that was closed."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        return len(data)


def settle_environment() -> None:
    """Lets output, caches and user names work wherever the process was started.

    A tool goes on when nobody reads its output any more, so that a training is not lost. Names of files that are not UTF-8 are
    printed with escapes. In a container with ``--user 12345``, the home folder is ``/``, as in Docker, and the name a number.
    """
    for number, name in ((1, 'stdout'), (2, 'stderr')):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper and stream.fileno() == number:  # not a stand-in
            stream.flush()
            buffer = io.BufferedWriter(_StandardStream(number, 'w', closefd=False))
            setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, 'backslashreplace', line_buffering=True))
    if os.path.expanduser('~') == '~':
        os.environ['HOME'] = '/'
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        os.environ['USER'] = str(os.getuid())
