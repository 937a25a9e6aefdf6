"""The web demo's server, without a browser."""

import json
import signal
import socket
import urllib.request

import pytest

from mmsagan.errors import ConfigError
from mmsagan.web.browser import RunningDemo
from mmsagan.web.server import open_port


def test_a_plain_model_is_served_until_ctrl_c(tmp_path, plain_experiment):
    (tmp_path / 'temporary').mkdir()
    arguments = [plain_experiment.config, plain_experiment.folder / 'last_checkpoint', '--device', 'cpu']
    env = dict(TMPDIR=str(tmp_path / 'temporary'), OMP_NUM_THREADS='1')
    with RunningDemo(arguments, tmp_path / 'log', env) as demo:
        assert demo.url.startswith('http://127.0.0.1:'), 'only for this machine'
        with urllib.request.urlopen(f'{demo.url}config') as answer:
            page = json.load(answer)
        components = [component['props'] for component in page['components']]
        assert page['analytics_enabled'] is False and page['footer_links'] == []
        assert 'This generator has no attention layer to look into.' in [props.get('value') for props in components]
        pickers = [props for props in components if 'class' in str(props.get('label')).lower()]
        assert len(pickers) == 4 and not any(props['visible'] for props in pickers)
        assert demo.stop(signal.SIGINT) == 0
    assert 'Traceback' not in demo.log.read_text() and demo.log.read_text().endswith('stopped\n')
    assert list((tmp_path / 'temporary').iterdir()) == []


def test_ports():
    with open_port('127.0.0.1', 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f'cannot listen on 127.0.0.1, port {port}: .*in use; choose others'):
            open_port('127.0.0.1', port)
        socket.create_connection(('127.0.0.1', port)).close()
    for host, number in [('127.0.0.1', 70_000), ('256.1.1.1', 0), ('192.0.2.1', 0)]:
        with pytest.raises(ConfigError, match='cannot listen on'):
            open_port(host, number)


def test_a_demo_that_does_not_start_says_why(tmp_path, plain_experiment):
    with pytest.raises(ConfigError, match=r'has not started: (.|\n)*error: checkpoint gone.pth does not exist'):
        RunningDemo([plain_experiment.config, 'gone.pth'], tmp_path / 'log')
