import os
import subprocess
from collections.abc import Callable

import pytest
from launching import ROOT


@pytest.fixture
def started_by(tmp_path) -> Callable[..., str]:
    """With a python that only says what it was called with: started_by('dist_test.sh', argument, ...)."""
    (tmp_path / 'python').write_text('#!/usr/bin/env bash\necho "$@"\n')
    (tmp_path / 'python').chmod(0o700)

    def run(script: str, *arguments: str) -> str:
        env = dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}')
        command = ['bash', str(ROOT / 'tools' / script), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()

    return run
