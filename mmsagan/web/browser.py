"""The web demo as a visitor has it: the tool in a process of its own, and a browser without a window."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import mmsagan
from mmsagan.errors import ConfigError
from mmsagan.utils.files import shipped_root

_BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
_SECONDS_TO_START, _SECONDS_TO_END = 120, 20


def find_browser() -> str:
    """Path of Chromium or Chrome.

    Raises:
        ConfigError: There is none, or Playwright, which drives it, is missing.
    """
    found = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if found is None:
        raise ConfigError('there is no browser: install Chromium, on Debian by `apt-get install chromium`')
    if importlib.util.find_spec('playwright') is None:
        raise ConfigError('there is no Playwright, which drives the browser: pip install "mmsagan[tests]"')
    return found


@contextmanager
def open_browser() -> Iterator:
    """Playwright's browser.

    Raises:
        ConfigError: As :func:`find_browser`.
    """
    path = find_browser()
    from playwright.sync_api import sync_playwright

    is_root = hasattr(os, 'geteuid') and os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=['--no-sandbox'] if is_root else [])
        try:
            yield browser
        finally:
            browser.close()


class RunningDemo:
    """``tools/web_demo.py`` in a process of its own, on a free port; as a context, it ends with it.

    Args:
        arguments: Of the tool.
        log: File for all that it says.
        env: Environment variables besides this process's.

    Attributes:
        url: Of the page.

    Raises:
        ConfigError: It has ended without serving the page, or took too long.
    """

    def __init__(self, arguments: Sequence[object], log: Path, env: Mapping[str, str] | None = None):
        self.log = log
        command = [sys.executable, shipped_root() / 'tools' / 'web_demo.py', *arguments, '--port', '0']
        env = {**os.environ, **(env or {})}
        package = str(Path(mmsagan.__file__).parent.parent)
        env['PYTHONPATH'] = os.pathsep.join([package, *filter(None, [env.get('PYTHONPATH')])])
        with open(log, 'w') as file:
            self.process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=subprocess.STDOUT, env=env)
        try:
            self.url = self._wait_for_url()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _wait_for_url(self) -> str:
        end = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < end:
            found = re.search(r'http://\S+', self.log.read_text(errors='replace'))
            if found:
                return found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise ConfigError(f'the web demo has not started: {self.log.read_text(errors="replace").strip()}')

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it by a signal, and gives its exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(_SECONDS_TO_END)
        finally:
            self.process.kill()

    def __enter__(self) -> 'RunningDemo':
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.stop()
