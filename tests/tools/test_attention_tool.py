import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.apis import attention_maps, init_model
from mmsagan.registry import MODELS
from mmsagan.visualization import attention_figure


@pytest.fixture(scope='module')
def experiment(tmp_path_factory, gan_config, settle):
    """A config without data of a model of 12 classes with two attention layers, and its checkpoint."""
    folder = tmp_path_factory.mktemp('experiment')
    config = gan_config(num_classes=12)
    config['generator'].update(attention_after_nth_block=[2, 3])
    (folder / 'config.py').write_text(f'model = {config!r}\n')
    torch.manual_seed(0)
    torch.save(dict(state_dict=settle(MODELS.build(config)).state_dict()), folder / 'model.pth')
    return str(folder / 'config.py'), str(folder / 'model.pth')


@pytest.fixture
def run(run_here, experiment):
    """Runs the tool: run(argument, ...) -> exit code and last line of output."""

    def tool(*arguments) -> tuple[int, str]:
        code, out, err = run_here('visualize_attention.py', *experiment, '--device', 'cpu', *arguments)
        return code, (err if code else out).strip().splitlines()[-1]

    return tool


def read(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == 'PNG' and image.mode == 'RGB'
        return np.array(image)


def test_figure_of_chosen_samples(tmp_path, experiment, run):
    out = tmp_path / 'new' / 'figure.png'
    code, said = run('--labels', '1,10-11', '--queries', '5,6;30,0', '--seed', 3, '--out', out)
    assert code == 0 and str(out) in said
    result = attention_maps(init_model(*experiment), [(5, 6), (30, 0)], labels=[1, 10, 11], seed=3)
    expected = attention_figure(result.images, result.queries, result.select('feat32'), ['1', '10', '11'])
    assert np.array_equal(read(out), expected)


def test_figure_of_salient_queries_in_all_layers(tmp_path, run):
    for name in ('a.png', 'b.png'):
        code, said = run('--num-samples', 2, '--layer', 'all', '--num-queries', 3, '--out', tmp_path / name)
        assert code == 0 and 'feat16, feat32' in said
    assert np.array_equal(read(tmp_path / 'a.png'), read(tmp_path / 'b.png')), 'the same points each time'
    assert read(tmp_path / 'a.png').shape == (28 + 4 * 212, 28 + 4 * 200, 3)


@pytest.mark.parametrize(
    'arguments, key',
    [
        (['--queries', '1-2'], 'queries'),
        (['--layer', 'feat64'], 'feat64'),
        (['--labels', '12'], 'label'),
        (['--num-samples', '310', '--queries', '0,0'], '65748'),  # pixels: too large a figure
        (['--out', 'figure.jpg'], 'figure.jpg'),
    ],
)
def test_wrong_options(tmp_path, monkeypatch, run, arguments, key):
    monkeypatch.chdir(tmp_path)
    code, said = run('--out', 'figure.png', *arguments)
    assert code == 2 and 'error: ' in said and key in said
    assert not list(tmp_path.iterdir())
