"""The tools that sample a checkpoint, convert it, export it or draw pictures, called in this process."""

import csv
import json
import runpy
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from launching import ROOT
from mmengine.config import Config
from PIL import Image

from mmsagan.apis import attention_maps, init_model
from mmsagan.apis.hub import FILES
from mmsagan.apis.inspection import extract_features, noise_directions, power_spectrum
from mmsagan.apis.sampling import SampleSet, class_folders, sample, sample_inputs, write_samples
from mmsagan.apis.statistics import has_same_classes
from mmsagan.checkpoints import load_checkpoint_file
from mmsagan.datasets import ImageFolder
from mmsagan.engine.config import load_config
from mmsagan.errors import ConfigError
from mmsagan.registry import MODELS
from mmsagan.visualization import attention_figure, class_grid, image_grid


def test_queries_on_the_command_line():
    parse_queries = runpy.run_path(str(ROOT / 'tools' / 'visualize_attention.py'))['parse_queries']
    assert parse_queries('auto') is None and parse_queries('16,16; 4,20') == [(16, 16), (4, 20)]
    for text in ('', 'a', '1,', '1,2;', '-1,2', 'auto;1,2', '1.5,2'):
        with pytest.raises(ConfigError):
            parse_queries(text)


def make_experiment(folder: Path, num_classes: int) -> tuple[str, str]:
    """A config, and a checkpoint of a generator that uses its whole range of colours."""
    config = folder / 'config.py'
    config.write_text(
        f"_base_ = '{ROOT}/configs/sagan/sagan_32_woReLUinplace_cifar10_b64x1.py'\n"
        f'model = dict(num_classes={num_classes}, generator=dict(base_channels=8), discriminator=dict(base_channels=8))\n'
    )
    torch.manual_seed(0)
    model = MODELS.build(load_config(config).model)
    for parameter in model.generator.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    torch.save(dict(state_dict=model.state_dict()), folder / 'model.pth')
    return str(config), str(folder / 'model.pth')


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
    return make_experiment(tmp_path_factory.mktemp('conditional'), 12)


@pytest.fixture
def run(run_here):
    def call(*arguments, tool: str = 'sample.py') -> tuple[int, str]:
        code, out, err = run_here(tool, *arguments, '--device', 'cpu')
        return code, (err if code else out).strip().splitlines()[-1]

    return call


def read(path) -> torch.Tensor:
    with Image.open(path) as image:
        assert image.format == 'PNG' and image.mode == 'RGB'
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_a_folder_a_class(tmp_path, experiment, run):
    out = tmp_path / 'new' / 'samples'
    code, said = run(*experiment, '--labels', '1,9-11', '--num-per-class', 3, '--seed', 5, '--batch-size', 12, '--out', out)
    assert code == 0 and said.startswith(f'12 samples written to {out}')
    labels = [1] * 3 + [9] * 3 + [10] * 3 + [11] * 3
    paths = sorted(path.relative_to(out).as_posix() for path in out.rglob('*') if path.is_file())
    assert paths == [f'{label:02}/{number:02}.png' for number, label in enumerate(labels)]
    images = torch.stack([read(out / path) for path in paths])
    assert torch.equal(images, sample(init_model(*experiment), labels=labels, seed=5, batch_size=12))
    dataset = ImageFolder(data_root=str(out), pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    assert len(dataset) == 12 and list(dataset.metainfo['classes']) == ['01', '09', '10', '11']
    assert torch.equal(dataset[4]['inputs'], images[4])


def test_names_of_classes(tmp_path, experiment, run_here):
    """Folders 0 to 11 have the labels 0, 1, 10, 11, 2, ..., and the names say which ones are drawn."""
    for name in range(12):
        (tmp_path / 'data' / f'{name}').mkdir(parents=True)
        Image.new('RGB', (32, 32), 'white').save(tmp_path / 'data' / f'{name}' / 'a.png')
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = {experiment[0]!r}\n'
        f"train_dataloader = dict(dataset=dict(_delete_=True, type='ImageFolder', data_root={str(tmp_path / 'data')!r}))\n"
    )
    arguments = ['--labels', '2,=2', '--num-per-class', 1, '--device', 'cpu', '--out', tmp_path / 'out', '--npz']
    code, output, errors = run_here('sample.py', config, experiment[1], *arguments)
    assert code == 0 and "classes: 2 is '10', 4 is '2'" in output.splitlines(), errors
    assert np.load(tmp_path / 'out' / 'samples.npz')['arr_1'].tolist() == [2, 4]
    code, _, errors = run_here('sample.py', config, experiment[1], *arguments[:1], 'cat', *arguments[2:])
    assert code == 2 and "'cat'" in errors
    code, _, errors = run_here('sample.py', config, experiment[1], *arguments[:6], '--out', tmp_path / 'folders')
    names = sorted(path.name for path in (tmp_path / 'folders').iterdir())
    assert code == 0 and names == ['02_10', '04_2'], errors
    assert has_same_classes([*map(str, range(12))], [*'abcdefghijkl']) and has_same_classes(['00', '01'], ['a', 'b'])
    assert has_same_classes(class_folders(['a/b', 'c']), ['a/b', 'c']) and not has_same_classes(['0_c', '1_a-b'], ['a/b', 'c'])


def test_a_grid_with_one_row_a_class(tmp_path, experiment, run, monkeypatch):
    out = tmp_path / 'grid.png'
    for _ in range(2):  # the second one replaces the first
        code, said = run(*experiment, '--num-per-class', 2, '--truncation', 0.5, '--out', out)
    assert code == 0 and said.startswith(f'24 samples written to {out}')
    expected = sample(init_model(*experiment), labels=[i // 2 for i in range(24)], seed=0, truncation=0.5)
    assert np.array_equal(read(out).permute(1, 2, 0), class_grid(expected, [*map(str, range(12))]))
    assert [path.name for path in tmp_path.iterdir()] == ['grid.png'], 'nothing is left over'
    monkeypatch.setattr('mmsagan.visualization.figures._MAX_SIDE', 500)  # which the names' figure would exceed
    assert run(*experiment, '--num-per-class', 2, '--truncation', 0.5, '--out', out)[0] == 0
    assert np.array_equal(read(out).permute(1, 2, 0), image_grid(expected, 2))


def test_npz_of_random_classes(tmp_path, experiment, run):
    (tmp_path / 'notes.txt').touch()
    code, said = run(*experiment, '--num-samples', 70, '--npz', '--out', tmp_path, '--sample-model', 'orig')
    assert code == 0 and said == f'70 samples written to {tmp_path}/samples.npz'
    content = np.load(tmp_path / 'samples.npz')
    assert list(content) == ['arr_0', 'arr_1'] and content['arr_0'].dtype == np.uint8
    expected = sample(init_model(*experiment), 70, seed=0, labels=content['arr_1'])
    np.testing.assert_array_equal(content['arr_0'], expected.permute(0, 2, 3, 1))
    assert torch.equal(sample(init_model(*experiment), 70, seed=0), expected), 'classes, too, are those of the seed'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['notes.txt', 'samples.npz']


@pytest.mark.parametrize('suffix', ['.PNG', '.gif', '.mp4'])
def test_interpolations(suffix, tmp_path, experiment, run, monkeypatch):
    """Two rows from class 1 over 4 to 2: a grid, or a film forth and back, and the table of what each image is."""
    films = []

    def write_frames(path, size, fps, macro_block_size):
        assert [number % 2 for number in size] == [0, 0] and fps == 12
        films.append([])
        Path(path).write_bytes(b'film')
        while True:
            films[-1].append((yield))

    monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', SimpleNamespace(write_frames=write_frames))
    monkeypatch.setattr('importlib.util.find_spec', lambda name: name)
    out = tmp_path / 'new' / f'path{suffix}'
    options = '--labels', '1,4,2', '--seeds', 3, 7, '--steps', 3, '--out', out
    code, said = run(*experiment, *options, tool='analysis_tools/interpolate.py')
    assert code == 0 and said.startswith('2 x 5 images')
    rows = list(csv.DictReader((tmp_path / 'new' / 'path.csv').open()))
    assert [row['share'] for row in rows if row['seed'] == '7'] == ['0', '0.5', '1', '0.5', '1']
    found = [(row['row'], row['image'], row['from'], row['to']) for row in rows]
    assert found[2:6] == [('0', '2', '1', '4'), ('0', '3', '4', '2'), ('0', '4', '4', '2'), ('1', '0', '1', '4')]
    model, ends = init_model(*experiment), []
    for seed in (3, 7):
        noise = sample_inputs(model, seed).noise(0, 1)
        ends.append(sample(model, noise=noise.expand(3, -1), labels=[1, 4, 2]))
    expected = [image_grid(torch.stack(images).repeat_interleave(2, 2).repeat_interleave(2, 3), 2) for images in zip(*ends)]
    if suffix == '.PNG':
        grid = read(out).permute(1, 2, 0).numpy()
        found = [grid[:, 66 * place : 66 * place + 68] for place in (0, 2, 4)]
        expected = [image_grid(torch.stack(images).repeat_interleave(2, 2).repeat_interleave(2, 3), 1) for images in zip(*ends)]
        assert all(np.array_equal(*pair) for pair in zip(found, expected))
        return
    if suffix == '.gif':
        with Image.open(out) as film:
            assert (film.n_frames, film.info['duration'], film.info['loop']) == (8, 80, 0)
            film.seek(2)
            assert np.abs(np.array(film.convert('RGB')).astype(int) - expected[1]).mean() < 6, 'a palette of 256 colours'
        return
    (frames,) = films
    assert out.read_bytes() == b'film'
    assert len(frames) == 8 and all(np.array_equal(frames[place], expected[place // 2]) for place in (0, 2, 4))
    assert np.array_equal(frames[5], frames[3]) and np.array_equal(frames[7], frames[1]), 'and back'


def test_a_repository_for_the_hub(tmp_path, experiment, run_here):
    """It is written and listed, and nothing is pushed; the model is the same without the checkpoint's config."""
    tool, folder, checkpoint = 'model_converters/publish_model.py', tmp_path / 'repo', tmp_path / 'iter_7.pth'
    state = load_checkpoint_file(experiment[1])['state_dict']
    torch.save(dict(state_dict=state, meta=dict(cfg=load_config(experiment[0]).pretty_text, iter=7)), checkpoint)
    for _ in range(2):  # the second time, its own files are replaced
        code, output, errors = run_here(tool, checkpoint, '--to', folder, '--license', 'cc-by-4.0')
        listed = [Path(line.split()[-1]).name for line in output.splitlines() if ' MiB ' in line]
        assert code == 0 and listed == [*FILES], errors
    model = init_model(folder / 'config.json', folder / 'model.safetensors')
    assert torch.equal(sample(model, labels=[3], seed=0), sample(init_model(*experiment), labels=[3], seed=0))
    card = (folder / 'README.md').read_text()
    assert 'license: cc-by-4.0' in card and "init_model('hf://user/repo')" in card and 'Not measured.' in card
    code, output, errors = run_here(tool, checkpoint, '--to', 'hf://somebody/digits')
    written = tmp_path / 'hub' / 'somebody' / 'digits'
    assert code == 0 and 'nothing was pushed' in output and sorted(path.name for path in written.iterdir()) == sorted(FILES)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'README.md').touch()
    for arguments, message in [
        (['--to', tmp_path / 'mine'], 'not empty'),
        (['--to', 'hf://digits'], 'expected hf://user/repo'),
        (['--to', 'hf://a/b@v1'], 'use hf://a/b'),
        (['--to', folder, '--yes'], '--yes'),
        ([], 'OUT or --to'),
    ]:
        code, _, errors = run_here(tool, checkpoint, *arguments)
        assert code == 2 and message in errors
    code, _, errors = run_here(tool, experiment[1], '--to', tmp_path / 'other')
    assert code == 2 and 'no config of its model' in errors


@pytest.mark.parametrize('layers', ['first', 'norms'])
def test_directions(layers, tmp_path, run, gan_config):
    """They are orthonormal, and stretched by the weight as the singular values say; the picture moves samples along them."""
    config = gan_config(num_classes=3, generator=dict(noise_in_norms=True, with_spectral_norm=False))
    model = MODELS.build(config)
    model.init_weights()
    directions, values = noise_directions(model, layers)
    weights = dict(model.generator.named_parameters())
    names = ['noise2feat.weight'] if layers == 'first' else [name for name in weights if name.endswith('_noise.weight')]
    weight = torch.cat([weights[name] for name in names]).detach()
    assert len(names) == (1 if layers == 'first' else 12) and (values[:-1] >= values[1:]).all()
    torch.testing.assert_close(directions @ directions.T, torch.eye(len(values)), rtol=0, atol=1e-5)
    torch.testing.assert_close((weight @ directions.T).norm(dim=0), values, rtol=1e-4, atol=1e-5)
    assert values[0] == pytest.approx(torch.linalg.matrix_norm(weight, 2).item(), rel=1e-4)

    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    Config(dict(model=gan_config(num_classes=3, generator=dict(noise_in_norms=True, with_spectral_norm=False)))).dump(
        tmp_path / 'config.py'
    )
    out = tmp_path / 'directions.png'
    options = '--labels', '2,0', '--layers', layers, '--num-directions', 2, '--steps', 1, '--distance', 3, '--out', out
    assert run(tmp_path / 'config.py', tmp_path / 'model.pth', *options, tool='analysis_tools/directions.py')[0] == 0
    start = torch.as_tensor(sample_inputs(model, 0).noise(0, 1))
    moved = start + torch.tensor([-3.0, 0.0, 3.0])[:, None] * directions[1]
    expected = sample(model.eval(), noise=moved, labels=[0, 0, 0]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert np.abs(read(out).permute(1, 2, 0).numpy()[-68:].astype(int) - image_grid(expected, 3)).max() <= 1
    rows = list(csv.reader((tmp_path / 'directions.csv').open()))
    np.testing.assert_allclose(np.array(rows[2][2:], float), directions[1], atol=1e-5)


def test_directions_of_norms_that_ignore_the_noise(experiment):
    with pytest.raises(ConfigError, match='noise_in_norms=True'):
        noise_directions(init_model(*experiment), 'norms')


def test_an_unconditional_model(tmp_path, run):
    unconditional = make_experiment(tmp_path, 0)
    model = init_model(*unconditional)
    assert run(*unconditional, '--out', tmp_path / 'grid.png')[0] == 0
    assert np.array_equal(read(tmp_path / 'grid.png').permute(1, 2, 0), image_grid(sample(model, 64, seed=0), 8))
    assert SampleSet(model, num_samples=60).columns == 8
    assert run(*unconditional, '--num-samples', 3, '--out', tmp_path / 'files')[0] == 0
    assert sorted(path.name for path in (tmp_path / 'files').iterdir()) == ['0.png', '1.png', '2.png']
    assert run(*unconditional, '--num-samples', 3, '--npz', '--out', tmp_path)[0] == 0
    assert list(np.load(tmp_path / 'samples.npz')) == ['arr_0']
    code, said = run(*unconditional, '--labels', 0, '--out', tmp_path / 'more')
    assert code == 2 and 'error: ' in said and '--num-samples' in said


def test_attention_of_chosen_samples(tmp_path, experiment, run):
    out = tmp_path / 'new' / 'figure.png'
    arguments = ['--labels', '1,10-11', '--queries', '5,6;30,0', '--seed', 3, '--out', out]
    code, said = run(*experiment, *arguments, tool='visualize_attention.py')
    assert code == 0 and str(out) in said
    result = attention_maps(init_model(*experiment), [(5, 6), (30, 0)], labels=[1, 10, 11], seed=3)
    expected = attention_figure(result.images, result.queries, result.maps, ['1', '10', '11'])
    assert np.array_equal(read(out).permute(1, 2, 0), expected)


@pytest.mark.parametrize(
    'tool, arguments, key',
    [
        ('sample.py', ['--labels', '1', '--num-samples', '5'], '--num-samples'),
        ('sample.py', ['--out', '{tmp}/full'], 'old.png'),
        ('sample.py', ['--out', '{tmp}/a.jpg'], 'a.jpg'),
        ('visualize_attention.py', ['--layer', 'feat64'], 'feat64'),
        ('web_demo.py', ['--compare-with', 'gone.pth'], 'gone.pth'),
    ],
)
def test_wrong_input_gives_one_message_and_no_images(tmp_path, experiment, run, tool, arguments, key):
    (tmp_path / 'full').mkdir()
    for name in ('old.png', 'samples.npz'):
        (tmp_path / 'full' / name).touch()
    out = {'sample.py': ['--out', tmp_path / 'out'], 'visualize_attention.py': ['--out', tmp_path / 'a.png']}.get(tool, [])
    code, said = run(*experiment, *out, *(argument.format(tmp=tmp_path) for argument in arguments), tool=tool)
    assert code == 2 and 'error: ' in said and key in said
    assert not [path for path in tmp_path.rglob('*.*') if path.parent.name != 'full' and path.is_file()]


def test_the_web_demo_does_not_start(tmp_path, experiment, run, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        assert f'127.0.0.1, port {port}' in run(*experiment, '--port', port, tool='web_demo.py')[1]
    assert str(tmp_path) in run(experiment[0], tmp_path, '--port', 0, tool='web_demo.py')[1]
    monkeypatch.setitem(sys.modules, 'gradio', None)
    code, said = run(*experiment, '--port', 0, tool='web_demo.py')
    assert code == 2 and 'mmsagan[demo]' in said


def test_a_full_disk_leaves_no_scratch_files(tmp_path, experiment, monkeypatch):
    samples = SampleSet(init_model(*experiment), [0, 1], 3, batch_size=2)
    (tmp_path / 'samples.npz').write_text('old')

    def full_disk(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(np, 'savez', full_disk)
    monkeypatch.setattr('mmsagan.apis.sampling.write_atomically', full_disk)
    for out, npz in ((tmp_path, True), (tmp_path / 'grid.png', False), (tmp_path / 'files', False)):
        with pytest.raises(ConfigError, match=f'{tmp_path}.*No space left'):
            write_samples(samples, out, npz)
    assert [path.name for path in tmp_path.rglob('*')] == ['samples.npz'] and (tmp_path / 'samples.npz').read_text() == 'old'


def test_class_grids_with_intra_fid(tmp_path, experiment, run):
    names = [f'class {number}' for number in range(12)]
    results = {'FID/fid': 3.0, 'IntraFID/per_class': dict(zip(names, range(12)))}
    (tmp_path / 'results.json').write_text(json.dumps(results))
    arguments = ['--labels', '3,7', '--num-per-class', 3, '--seed', 2, '--intra-fid', tmp_path / 'results.json']
    code, said = run(*experiment, *arguments, '--out', tmp_path / 'grid.png', tool='analysis_tools/class_grids.py')
    assert code == 0 and said.endswith(f'3 samples of 2 classes written to {tmp_path}/grid.png')
    images = sample(init_model(*experiment), labels=[3, 3, 3, 7, 7, 7], seed=2)
    expected = class_grid(images, ['class 3', 'class 7'], ['IntraFID 3.0', 'IntraFID 7.0'])
    assert np.array_equal(read(tmp_path / 'grid.png').permute(1, 2, 0), expected)


def test_curves(tmp_path, run_here):
    for name in ('baseline', 'ttur'):
        file = tmp_path / name / '20260101_000000' / 'vis_data' / 'scalars.json'
        file.parent.mkdir(parents=True)
        records = [dict(loss_gen=1 / step, iter=step, step=step) for step in range(1, 5)]
        records += [{'FID-digits/fid': 7.5, 'step': 4}] if name == 'baseline' else []
        file.write_text(''.join(json.dumps(record) + '\n' for record in records))
    out, logs = tmp_path / 'curves.svg', (tmp_path / 'baseline', tmp_path / 'ttur')
    code, said, _ = run_here('analysis_tools/plot_metrics.py', *logs, '--keys', 'fid', 'loss_gen', '--smooth', 2, '--out', out)
    assert code == 0 and f'FID-digits/fid, loss_gen written to {out}' in said and 'nothing logged by ttur' in said
    content = out.read_text()
    assert all(f'<!-- {text} -->' in content for text in ('baseline', 'ttur', 'FID-digits/fid', 'iterations'))


def test_export(tmp_path, run_here, fixture_of):
    path, checkpoint = tmp_path / 'out' / 'g.pt', fixture_of('mmagic_32_woReLUinplace').path
    arguments = ['sagan_32_woReLUinplace_cifar10_b64x1', checkpoint, '--format', 'torchscript', '--sample-model', 'orig']
    small = ['model.generator.base_channels=32', 'model.discriminator.base_channels=16']
    code, output, errors = run_here('deployment/export.py', *arguments, '--out', path, '--cfg-options', *small)
    assert code == 0, errors
    *_, what, checked, shapes, load, use = output.splitlines()
    assert str(path) in what and 'orig' in what and float(checked.split()[-1]) < 1e-5
    assert '(N, 128)' in shapes and '(N, 3, 32, 32)' in shapes
    names = dict(torch=torch, noise=torch.randn(3, 128), label=torch.arange(3))
    exec(f'{load.strip()}\n{use.strip()}', names)
    assert names['images'].shape == (3, 3, 32, 32)


@pytest.mark.parametrize('name', ['mmagic_32_woReLUinplace', 'studiogan_legacy_32'])
def test_there_and_back(fixture_of, name, tmp_path, run_here):
    def convert(*arguments) -> str:
        code, output, errors = run_here('model_converters/convert.py', *arguments)
        assert code == 0, errors
        return output

    reference = fixture_of(name)
    out = tmp_path / 'out.pth'
    output = convert(reference.path, '--out', out)
    assert 'base_channels=32' in output and 'attention after block 2' in output and f'written to {out}' in output
    assert ('channel order bgr' in output) == reference.is_bgr
    reference.check(init_model(None, out))
    output = convert(out, '--to', 'studiogan', '--out', tmp_path / 'studio')
    assert ('logits will differ' in output) == (reference.folder.name == 'mmagic_32_woReLUinplace')
    settings = yaml.safe_load(output.partition('config needs:\n')[2])
    assert settings['MODEL']['g_conv_dim'] == settings['MODEL']['d_conv_dim'] == 8
    assert settings['DATA'] == dict(img_size=32, num_classes=10)
    (generator,) = (tmp_path / 'studio').glob('model=G-best-weights-step=*.pth')
    assert load_checkpoint_file(generator)['state_dict']['blocks.0.0.bn1.gain.weight_orig'].shape == (32, 10)
    convert(generator, '--out', tmp_path / 'back.safetensors')
    first, back = (load_checkpoint_file(path)['state_dict'] for path in (out, tmp_path / 'back.safetensors'))
    assert set(first) == set(back) and all(torch.equal(first[key], back[key]) for key in first if key != 'iteration')


@pytest.mark.parametrize('is_given', [True, False])
def test_neighbours(tmp_path, experiment, run, cifar_root, cifar_arrays, is_given):
    """A given real image that is in the training set has a distance of 0; one that is left out of the training set has not."""
    (tmp_path / 'given').mkdir()
    Image.fromarray(cifar_arrays[0][17]).save(tmp_path / 'given' / 'copy.png')
    arguments = ['--labels', '1,3', '--num-neighbours', 3, '--seed', 5, '--num-workers', 0]
    arguments += ['--held-out', tmp_path / 'given', '--extractor', 'fashion'] if is_given else []
    key = 'test_evaluator' if is_given else 'test_evaluator.metrics'  # an evaluator may be a list of metrics
    metrics = f"{key}=[{{'type':'FID','inception_style':'digits'}}]"
    arguments += ['--cfg-options', f'train_dataloader.dataset.data_root={cifar_root}', metrics]
    tables = []
    for out in (tmp_path / 'one.png', tmp_path / 'two.png'):
        code, said = run(*experiment, '--out', out, *arguments, tool='analysis_tools/neighbours.py')
        assert code == 0 and out.stem in said
        with out.with_suffix('.csv').open() as file:
            tables.append(list(csv.DictReader(file)))
    assert (tmp_path / 'one.png').read_bytes() == (tmp_path / 'two.png').read_bytes() and tables[0] == tables[1]
    drawn, real = tables[0][:6], tables[0][6:]
    assert [row['kind'] for row in drawn + real] == ['sample'] * 6 + ['real'] * (3 if is_given else 6)
    if is_given:
        assert real[0]['training_number'] == '17' and float(real[0]['distance']) < 1e-5
    else:
        assert not {row['number'] for row in real} & {row['training_number'] for row in tables[0]}
        assert all(float(row['distance']) > 1e-5 for row in real)
    images = sample(init_model(*experiment), labels=[1, 3], seed=5)
    assert torch.equal(read(tmp_path / 'one.png')[:, 42:138:3, 2:98:3], images[0])


def test_spectra_and_embeddings(tmp_path, experiment, run, cifar_root, cifar_arrays):
    """Their tables have the profiles of the samples and of random training images, and a point for each of them."""
    data, digits = f'train_dataloader.dataset.data_root={cifar_root}', '[{"type":"FID","inception_style":"digits"}]'
    arguments = [*experiment, '--num-samples', 20, '--seed', 3, '--cfg-options', data, f'test_evaluator.metrics={digits}']
    tables = {}
    for tool in ('spectrum', 'embed'):
        for out in (tmp_path / f'{tool}_1.png', tmp_path / f'{tool}_2.png'):
            extra = ['--perplexity', 5] if tool == 'embed' else []
            code, said = run(*arguments, *extra, '--out', out, tool=f'analysis_tools/{tool}.py')
            assert code == 0 and '20 samples and 20 training images' in said and read(out).shape[0] == 3
        assert out.read_bytes() == (tmp_path / f'{tool}_1.png').read_bytes(), 'the same on every run'
        tables[tool] = [*csv.DictReader(out.with_suffix('.csv').open())]
    model = init_model(*experiment)
    images = sample(model, 20, seed=3)
    expected = power_spectrum(images)[1]
    assert [float(row['fake']) for row in tables['spectrum']] == pytest.approx(expected.tolist(), rel=1e-4, abs=1e-20)
    assert [int(row['frequency']) for row in tables['spectrum']] == [*range(17)]
    points = np.array([[float(row['x']), float(row['y'])] for row in tables['embed']])
    assert [row['kind'] for row in tables['embed']] == ['real'] * 20 + ['fake'] * 20 and np.ptp(points, axis=0).min() > 1
    assert [int(row['label']) for row in tables['embed'][20:]] == sample_inputs(init_model(*experiment), 3).labels(
        0, 20
    ).tolist()
    # t-SNE keeps neighbours: the nearest point of a sample is one of the nearest in feature space.
    features = extract_features(images, inception_style='digits').double()
    fake = torch.from_numpy(points[20:])
    nearest = [torch.cdist(each, each).fill_diagonal_(torch.inf).argsort(1) for each in (fake, features)]
    assert sum(int(one[0] in other[:6]) for one, other in zip(*nearest)) >= 14
    code, said = run(*arguments, '--perplexity', 40, '--out', tmp_path / 'x.png', tool='analysis_tools/embed.py')
    assert code == 2 and 'perplexity' in said
