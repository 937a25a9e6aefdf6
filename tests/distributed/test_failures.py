"""What becomes of the other processes when one fails, over gloo and loopback."""

import re
import subprocess
import time
from pathlib import Path

import pytest
from launching import ROOT, run_tools
from test_distributed import CONFIG, environment, train_options

pytestmark = pytest.mark.slow

# Well below the 1800 s for which a process waits for another one, and below the 30 s after which torchrun kills.
PROMPTLY = 20
# As the report of an exception shows the line that raised it.
RAISED = "raise RuntimeError('a bug')"
TOOL = Path(__file__).parent / 'failing.py'


class Ended:
    """Processes that have ended: their exit code and output, and how many seconds they lived on after the failure."""

    def __init__(self, code: int, said: str):
        self.code, self.said = code, said
        failures = [float(when) for when in re.findall(r'failing at ([0-9.]+)', said)]
        self.seconds = time.time() - failures[0] if failures else None


@pytest.fixture
def start(tmp_path):
    """Starts a command and waits for its end; then nothing of it may be left, of its data loaders neither."""

    def run(*command, **env) -> Ended:
        env = environment(**env)
        env['PYTHONPATH'] += f':{TOOL.parent}:{tmp_path}'
        result = subprocess.run([*map(str, command)], env=env, capture_output=True, text=True, timeout=120)
        ended = Ended(result.returncode, result.stdout + result.stderr)
        assert_nothing_is_left(str(tmp_path))
        return ended

    return run


@pytest.fixture
def train(start, tmp_path, cifar_root):
    """Trains with two processes: train({arguments of the failing hook}, options)."""

    def run(hook: dict | None, *options: str) -> Ended:
        config = tmp_path / 'config.py'
        hooks = [dict(hook, type='FailingHook')] if hook else []
        config.write_text(f"_base_ = {str(CONFIG)!r}\ncustom_imports = dict(imports=['failing'])\ncustom_hooks = {hooks}\n")
        return start(
            'bash', ROOT / 'tools' / 'dist_train.sh', config, 2, *train_options(tmp_path / 'run', cifar_root), *options
        )

    return run


@pytest.fixture
def fail():
    """Runs the small tool in two processes without torchrun, which would notice a failure, too: fail(when, rank, how, others).

    Gives the ends of both.
    """

    def run(*arguments, hosted: bool = False, timeout: float = 1800) -> list[Ended]:
        ends = run_tools(TOOL, *arguments, processes=2, hosted=hosted, TIMEOUT=str(timeout))
        return [Ended(end.returncode, end.stdout + end.stderr) for end in ends]

    return run


def assert_nothing_is_left(mark: str) -> None:
    """Waits for the end of the processes that have ``mark`` in their environment."""
    limit = time.monotonic() + 10
    while left := [path for path in Path('/proc').glob('[0-9]*/environ') if mark in environment_of(path)]:
        assert time.monotonic() < limit, left
        time.sleep(0.1)


def environment_of(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors='replace')
    except OSError:  # has ended, or is another user's
        return ''


def test_one_raises_while_the_other_waits_in_a_collective(train):
    end = train(dict(how='raise', rank=1), 'train_dataloader.num_workers=1')
    assert end.code == 1 and end.seconds < PROMPTLY
    assert end.said.count(RAISED) == 1 and end.said.count('rank 1 has failed\nTraceback') == 1
    assert end.said.count('rank 0 ends since rank 1 has failed (see its message)\n') >= 1
    assert 'gloo' not in end.said, 'no secondary traceback'
    assert 'traceback : RuntimeError: a bug (see above for more)' in end.said.partition('Root Cause')[2], "torchrun's report"


def test_the_first_one_is_killed_while_the_other_waits_in_a_collective(train):
    end = train(dict(how='kill', rank=0))
    assert end.code == 1 and end.seconds < PROMPTLY
    report = end.said.partition('Root Cause')[2]
    assert 'rank      : 0 (' in report and 'Signal 9 (SIGKILL)' in report, end.said


@pytest.mark.parametrize('when', ['before', 'after'])
def test_one_raises_while_the_other_joins_or_is_far_from_any_collective(fail, when):
    first, second = fail(when, 0, 'raise', 'hang')
    assert (first.code, second.code) == (1, 1) and first.seconds < PROMPTLY
    assert first.said.count(RAISED) == 1 and second.said == 'rank 1 ends since rank 0 has failed (see its message)\n'


def test_one_hangs(fail):
    first, second = fail('after', 1, 'hang', timeout=4)
    assert (first.code, second.code) == (1, 1) and 4 < second.seconds < 4 + PROMPTLY
    assert re.match('rank 0 has failed: another process has not answered in time: it hangs, or .*dist_cfg.timeout', first.said)
    assert second.said.endswith('rank 1 ends since rank 0 has failed (see its message)\n')


def test_one_is_killed_and_no_launcher_notices(fail):
    first, second = fail('after', 1, 'kill')
    assert (first.code, second.code) == (1, -9) and second.seconds < PROMPTLY
    assert first.said.startswith('rank 0 has failed: another process seems to have died without a message')
    assert first.said.count('Traceback') == 1 and 'gloo' in first.said


@pytest.mark.parametrize('when', ['before', 'after'])
def test_the_one_that_hosts_the_store_fails(fail, when):
    """It lives until the other one has read in its store what has happened."""
    first, second = fail(when, 0, 'user error', hosted=True)
    assert (first.code, second.code) == (2, 2) and first.seconds < PROMPTLY
    assert first.said.endswith('error: no data\n')
    assert second.said == 'rank 1 ends since rank 0 has failed (see its message)\n'


def test_the_one_that_hosts_the_store_is_killed(fail):
    first, second = fail('after', 0, 'kill', 'hang', hosted=True)
    assert (first.code, second.code) == (-9, 1) and first.seconds < PROMPTLY
    assert re.search('^rank 1 ends since the run has: nothing answers at 127.0.0.1:', second.said, re.M)


def test_both_make_the_same_mistake(fail):
    ends = fail('after', 1, 'user error', 'user error')
    assert [end.code for end in ends] == [2, 2]
    assert sum(end.said.count('error: no data\n') for end in ends) == 1
    assert 'Traceback' not in ends[0].said + ends[1].said


def test_none_fails(fail):
    """The one that hosts the store leaves last, so that the other one does not take it for killed."""
    first, second = fail('after', 1, 'be late', hosted=True)
    assert (first.code, second.code) == (0, 0)
    assert first.said == '' and re.fullmatch(r'\nfailing at [0-9.]+\n', second.said)
