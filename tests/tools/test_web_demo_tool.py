"""Errors of the web demo's tool when it cannot start; tests/web has the demo itself."""

import socket
import sys

import pytest


@pytest.fixture(scope='module')
def experiment(tmp_path_factory, experiment_of):
    return experiment_of(tmp_path_factory.mktemp('demo'), 3)


@pytest.fixture
def run(run_here, experiment):
    """Runs the tool, which must not start: run(argument, ...) -> last line of its message."""

    def tool(*arguments, config=experiment[0], checkpoint=experiment[1]) -> str:
        code, _, err = run_here('web_demo.py', config, checkpoint, '--port', 0, '--device', 'cpu', *arguments)
        assert code == 2
        return err.strip().splitlines()[-1]

    return tool


def test_without_gradio(run, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert 'mmsagan[demo]' in run()


def test_a_port_in_use(run):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        assert f'127.0.0.1, port {port}' in run('--port', port)


@pytest.mark.parametrize(
    'arguments, key',
    [
        (['--device', 'cuda:99'], '--device cuda:99'),
        (['--compare-with', 'gone.pth'], 'gone.pth'),
        (['--compare-config', 'sagan_33'], '--compare-with'),
        (['--cfg-options', 'model.generator.base_channels=16'], 'generator'),
    ],
)
def test_wrong_arguments(run, arguments, key):
    assert key in run(*arguments)


def test_wrong_config_or_checkpoint(run, tmp_path):
    assert str(tmp_path) in run(checkpoint=tmp_path)
    assert 'sagan_33' in run(config='sagan_33')
