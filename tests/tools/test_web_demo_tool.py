"""What the web demo's tool says when it cannot start; tests/web has the demo itself."""

import socket
import sys

import pytest


@pytest.fixture(scope='module')
def experiment(tmp_path_factory, experiment_of):
    return experiment_of(tmp_path_factory.mktemp('demo'), 3)


@pytest.fixture
def run(run_here, experiment):
    """Runs the tool: run(argument, ...) -> the last line of what it said; it must not have started."""

    def tool(*arguments, config=experiment[0], checkpoint=experiment[1]) -> str:
        code, _, err = run_here('web_demo.py', config, checkpoint, '--port', 0, '--device', 'cpu', *arguments)
        assert code == 2
        return err.strip().splitlines()[-1]

    return tool


def test_without_gradio(run, monkeypatch):
    monkeypatch.setitem(sys.modules, 'gradio', None)
    assert run() == 'error: the web demo needs Gradio: pip install "mmsagan[demo]"'


def test_a_port_in_use(run):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        said = run('--port', port)
    assert said == f'error: cannot listen on 127.0.0.1, port {port}: Address already in use; choose others by --host and --port'


def test_a_work_dir_without_a_checkpoint(run, tmp_path):
    assert f'there is no checkpoint in {tmp_path}: train one first (`make demo`' in run(checkpoint=tmp_path)
    assert 'sagan_33 is neither a file nor the name of a config' in run(config='sagan_33')


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--max-images', '1'], 'must be at least 2, got 1'),
        (['--device', 'cuda:99'], '--device cuda:99 cannot be used'),
        (['--compare-with', 'gone.pth'], 'gone.pth'),
        (['--compare-with', 'zoo'], 'no published weights'),
        (['--compare-config', 'sagan_33'], '--compare-config is the config of the checkpoints of --compare-with'),
        (['--compare-with', 'a.pth', '--compare-config', 'sagan_33'], 'a.pth'),
        (['--cfg-options', 'model.generator.base_channels=16'], 'generator'),
    ],
)
def test_wrong_arguments_give_one_message(run, arguments, message):
    assert message in run(*arguments)
