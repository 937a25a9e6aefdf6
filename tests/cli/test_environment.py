"""Tools whose readers go away, and processes without a user."""

import getpass
import os
import subprocess
import sys

import pytest
from launching import ROOT

from mmsagan.cli.environment import settle_environment

PRINTING = """
import logging, sys
from mmsagan.cli.environment import settle_environment
settle_environment()
settle_environment()
logging.basicConfig(stream=sys.stdout, force=True)
for _ in range(20_000):
    print('a line')
    logging.error('a line')
open(sys.argv[1], 'w').write('finished')
sys.exit(3)
"""


@pytest.mark.parametrize('python', [f'{sys.executable}', f'{sys.executable} -u'])
@pytest.mark.parametrize('pipe', ['|', '2>&1 |'])
def test_a_tool_goes_on_when_nobody_reads_it(tmp_path, python, pipe):
    """Its work is done, and nothing is said about the pipe."""
    script, finished = tmp_path / 'tool.py', tmp_path / 'finished'
    script.write_text(PRINTING)
    command = f'{python} {script} {finished} {pipe} head -n 1; echo ${{PIPESTATUS[0]}}'
    ended = subprocess.run(['bash', '-c', command], env=dict(os.environ, PYTHONPATH=ROOT), capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ('a line\n3\n', '') and finished.read_text() == 'finished'


def test_the_overview_through_head():
    command = f'{sys.executable} -m mmsagan --help | true; echo ${{PIPESTATUS[0]}}'
    ended = subprocess.run(['bash', '-c', command], cwd=ROOT, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ('0\n', '')


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='needs /dev/full')
def test_a_full_disk_is_an_error():
    with open('/dev/full', 'w') as full:
        ended = subprocess.run(
            [sys.executable, '-m', 'mmsagan', '--help'], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode and 'No space left' in ended.stderr


def test_a_process_without_user_and_home(monkeypatch):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr('pwd.getpwuid', unknown)
    monkeypatch.setattr(os, 'environ', dict.fromkeys(['PATH'], ''))
    settle_environment()
    assert os.path.isabs(os.path.expanduser('~')) and getpass.getuser() == str(os.getuid())


def test_what_is_there_stays(monkeypatch):
    monkeypatch.setenv('HOME', '/somewhere')
    monkeypatch.setenv('LOGNAME', 'me')
    monkeypatch.delenv('USER', raising=False)
    settle_environment()
    assert (os.environ['HOME'], os.environ['LOGNAME'], 'USER' in os.environ) == ('/somewhere', 'me', False)
