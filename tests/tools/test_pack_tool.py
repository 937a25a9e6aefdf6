"""The packing tool as a user types it, and a training on what it has made."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from test_train_tool import run

from mmsagan.apis.train import train_from_config
from mmsagan.datasets import ImageNet, PackedImages

pytestmark = pytest.mark.slow

TOOL = 'tools/dataset_converters/pack_images.py'
PACK = [dict(type='PackInputs')]


@pytest.fixture
def source(tmp_path, imagenet_root):
    """The ImageNet-like fixture with a damaged image."""
    root = shutil.copytree(imagenet_root, tmp_path / 'imagenet')
    damaged = sorted((root / 'train').rglob('*.JPEG'))[3]
    damaged.write_bytes(damaged.read_bytes()[:400])
    return root


def test_the_command_of_the_documentation(tmp_path, source):
    arguments = [source / 'train', '--size', 32, '--out', tmp_path / 'out', '--workers', 2]
    refused = run(*arguments, tool=TOOL)
    assert refused.returncode == 2 and 'Traceback' not in refused.stderr
    assert '1 of 18 images cannot be read' in refused.stderr.splitlines()[-1]
    again = run(*arguments, '--max-unreadable-share', 0.1, tool=TOOL)
    assert again.returncode == 0, again.stderr
    assert '17 images, 3 classes' in again.stdout and '1 images cannot be read' in again.stdout
    line = again.stdout.splitlines()[-1].partition('dataset=')[2]
    dataset = eval(line, dict(dict=dict))
    assert dataset.pop('type') == 'PackedImages'
    dataset = PackedImages(**dataset)
    assert len(dataset) == 17 and dataset[0]['inputs'].shape == (3, 32, 32)
    changed = run(*arguments[:1], '--size', 64, *arguments[3:], tool=TOOL)
    assert changed.returncode == 2 and 'size=32' in changed.stderr


@pytest.mark.parametrize('way', ['--meta', '--data-cfg'])
def test_a_list_of_images(tmp_path, imagenet_root, way):
    """The data set of a config has its images in the same order, and so has one made with the list that it names."""
    root = shutil.copytree(imagenet_root, tmp_path / 'imagenet')
    lines = (root / 'meta' / 'train.txt').read_text().splitlines()
    (root / 'meta' / 'train.txt').write_text('\n'.join(lines[::-1][:17]))
    arguments = [root / 'train', '--meta', root / 'meta' / 'train.txt']
    if way == '--data-cfg':
        base = 'configs/_base_/datasets/imagenet_128.py'
        (tmp_path / 'config.py').write_text(
            f'_base_ = {str(shutil.os.path.abspath(base))!r}\ntrain_dataloader = dict(dataset=dict(data_root={str(root)!r}))\n'
        )
        arguments = [way, tmp_path / 'config.py']
    result = run(*arguments, '--layout', 'short-side', '--size', 16, '--out', tmp_path / 'out', '--workers', 1, tool=TOOL)
    assert result.returncode == 0, result.stderr
    unpacked, packed = ImageNet(data_root=str(root)), PackedImages(data_root=str(tmp_path / 'out'), pipeline=PACK)
    for index in range(17):
        entry = unpacked.get_data_info(index)
        image = Image.open(entry['img_path'])
        scale = 16 / min(image.size)
        pixels = np.asarray(image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR))
        top, left = ((side - 16) // 2 for side in pixels.shape[:2])
        assert np.array_equal(packed[index]['inputs'], pixels[top : top + 16, left : left + 16].transpose(2, 0, 1))
        assert packed[index]['labels'] == entry['gt_label']
    assert json.loads((tmp_path / 'out' / 'recipe.json').read_text())['job']['source'] == 'train'


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['gone', '--out', 'OUT'], 'gone'),
        (['--out', 'OUT'], '--data-cfg'),
        (['--data-cfg', 'configs/_base_/default_runtime.py', '--out', 'OUT'], 'train_dataloader'),
        (['docs', '--out', 'OUT', '--layout', 'round'], '--layout'),
    ],
)
def test_mistakes(tmp_path, arguments, message):
    result = run(*[str(tmp_path / 'out') if part == 'OUT' else part for part in arguments], tool=TOOL)
    assert result.returncode == 2 and 'Traceback' not in result.stderr
    assert message in result.stderr.splitlines()[-1]
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('kind, message', [('ImageFoldr', "did you mean 'ImageFolder'"), ('ConcatDataset', 'ConcatDataset')])
def test_configs_of_what_cannot_be_packed(tmp_path, kind, message):
    (tmp_path / 'config.py').write_text(f'train_dataloader = dict(dataset=dict(type={kind!r}))')
    result = run('--data-cfg', tmp_path / 'config.py', '--out', tmp_path / 'out', tool=TOOL)
    assert result.returncode == 2 and 'Traceback' not in result.stderr and message in result.stderr.splitlines()[-1]


def test_a_folder_whose_name_is_not_utf8(tmp_path, imagenet_root):
    out = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9')
    result = run(imagenet_root / 'train', '--size', 8, '--out', out, tool=TOOL, PYTHONIOENCODING='utf-8:strict')
    assert result.returncode == 0, result.stderr
    assert repr(out) in result.stdout and len(PackedImages(data_root=out)) == 18


def test_a_training_on_a_packed_set(tmp_path, tiny_run, imagenet_root):
    """A leaf that takes the base of the packed set in place of the unpacked one, with flips on the device."""
    result = run(
        imagenet_root / 'train', '--layout', 'short-side', '--size', 32, '--out', tmp_path / 'out', '--workers', 1, tool=TOOL
    )
    assert result.returncode == 0, result.stderr
    cfg = tiny_run(
        max_iters=2,
        **{
            'model.num_classes': 3,
            'model.data_preprocessor.flip_prob': 0.5,
            'train_dataloader.collate_fn.type': 'mmsagan.collate_batch',
            'train_dataloader.dataset': dict(
                _delete_=True, type='PackedImages', data_root=str(tmp_path / 'out'), crop='random', pipeline=PACK
            ),
        },
    )
    runner = train_from_config(cfg)
    assert runner.iter == 2 and runner.visualizer.dataset_meta['classes'][0] == 'n01440764'
    assert all(torch.isfinite(parameter).all() for parameter in runner.model.parameters())
