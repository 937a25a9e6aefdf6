"""Packed data sets are read as the images they were made from; what is not whole is refused."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image

from mmsagan.datasets import ImageFolder, PackedImages, collate_batch
from mmsagan.datasets.packed import pack_dataset
from mmsagan.engine.config import complete_loader, load_config
from mmsagan.errors import ConfigError, DataError
from mmsagan.evaluation import RealImages
from mmsagan.registry import DATASETS

PACK = [dict(type='PackInputs')]
BASES = 'configs/_base_/datasets'


@pytest.fixture(scope='module')
def packed(tmp_path_factory, imagenet_root):
    """The ImageNet-like fixture, packed at 128 pixels in both layouts: packed / layout."""
    out = tmp_path_factory.mktemp('packed')
    for layout in ('square', 'short-side'):
        pack_dataset(ImageFolder(data_root=str(imagenet_root / 'train')), out / layout, 128, layout)
    return out


@pytest.fixture
def copy(tmp_path, packed):
    """A copy of the packed rectangles to be damaged."""
    return shutil.copytree(packed / 'short-side', tmp_path / 'copy')


@pytest.fixture
def strips(tmp_path):
    """Four images with a short side of 10 pixels, packed at that size; a pixel's colour is its place on the long edge."""
    shapes = ((10, 13), (13, 10), (10, 10), (10, 15))
    for number, (height, width) in enumerate(shapes):
        place = np.arange(max(height, width), dtype=np.uint8)
        pixels = np.broadcast_to(place[None, :, None] if width > height else place[:height, None, None], (height, width, 3))
        folder = tmp_path / 'strips' / f'class_{number}'
        folder.mkdir(parents=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / 'image.png')
    pack_dataset(ImageFolder(data_root=str(tmp_path / 'strips')), tmp_path / 'out', 10, 'short-side')
    return tmp_path / 'out'


def test_squares_are_the_unpacked_images_to_the_bit(packed, imagenet_root):
    """Decoded, cropped and resized by the pipeline of the config without augmentation."""
    configs = [complete_loader(load_config(f'{BASES}/imagenet_noaug{name}_128.py'), 'train') for name in ('', '_packed')]
    configs[0]['dataset']['data_root'] = str(imagenet_root)
    configs[1]['dataset']['data_root'] = str(packed / 'square')
    unpacked, dataset = [DATASETS.build(config['dataset']) for config in configs]
    assert dataset.metainfo['classes'] == unpacked.metainfo['classes'] and len(dataset) == len(unpacked) == 18
    for index in range(18):
        assert torch.equal(dataset[index]['inputs'], unpacked[index]['inputs'])
        assert dataset[index]['labels'] == unpacked[index]['labels']
    loaders = []
    for config in configs:
        config.update(batch_size=4, num_workers=0, persistent_workers=False, pin_memory=False)
        loaders.append(Runner.build_dataloader(config, seed=5))
    for _, expected, batch in zip(range(3), *loaders):
        assert torch.equal(batch['inputs'], expected['inputs']) and torch.equal(batch['labels'], expected['labels'])
        assert batch['inputs'].shape == (4, 3, 128, 128) and batch['labels'].dtype == torch.int64


def test_rectangles_are_resized_whole_and_cropped_in_the_middle(packed, imagenet_root):
    """By Pillow alone, at the sizes that keep the shape."""
    dataset = PackedImages(data_root=str(packed / 'short-side'), pipeline=PACK)
    paths = sorted((imagenet_root / 'train').rglob('*.JPEG'))
    for index, path in enumerate(paths):
        image = Image.open(path).convert('RGB')
        scale = 128 / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
        left, top = (width - 128) // 2, (height - 128) // 2
        assert np.array_equal(dataset[index]['inputs'], pixels[top : top + 128, left : left + 128].transpose(2, 0, 1))


def test_random_crops_are_uniform_and_reach_both_ends(strips):
    dataset = PackedImages(data_root=str(strips), crop='random', pipeline=PACK)
    images = torch.cat([dataset.__getitems__([0, 1, 2, 3]).inputs for _ in range(600)]).reshape(600, 4, 3, 10, 10)
    for number, room in enumerate((3, 3, 0, 5)):
        starts = images[:, number, 0, 0, 0].numpy()
        assert set(starts) == set(range(room + 1))
        expected = 600 / (room + 1)
        chi_square = ((np.bincount(starts) - expected) ** 2 / expected).sum()
        assert chi_square < 21, '0.1 % of uniform choices of one of six give more than 20.5'
        place = torch.from_numpy(starts)[:, None] + torch.arange(10)
        place = place[:, :, None] if number in (1, 2) else place[:, None, :]
        assert torch.equal(images[:, number], place[:, None].expand(600, 3, 10, 10).to(torch.uint8)), 'whole crops'


def test_random_crops_follow_the_seed_one_by_one_and_in_batches(strips):
    dataset = PackedImages(data_root=str(strips), crop='random', pipeline=PACK)
    batches = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        batches.append(dataset.__getitems__([0, 1, 3] * 5).inputs)
    assert torch.equal(batches[0], batches[1]) and not torch.equal(batches[0], batches[2])
    np.random.seed(1)
    samples = [dataset[index]['inputs'] for index in [0, 1, 3] * 5]
    assert torch.equal(torch.stack(samples), batches[0])


def test_processes_and_calls_draw_other_crops(strips):
    """Of the same image, in two loader processes and one batch after the other; and the same again by the same seed."""
    config = dict(
        dataset=dict(type='PackedImages', data_root=str(strips), crop='random', pipeline=PACK, indices=[3]),
        sampler=dict(type='InfiniteSampler', shuffle=False),
        collate_fn=dict(type='mmsagan.collate_batch'),
        batch_size=30,
        num_workers=2,
    )
    draws = []
    for seed in (5, 5, 7):  # a process takes the seed plus its number
        loader = Runner.build_dataloader(config, seed=seed)
        draws.append([tuple(batch['inputs'][:, 0, 0, 0].tolist()) for batch, _ in zip(loader, range(4))])
    assert len(set(draws[0])) == 4 and draws[0] == draws[1] and not set(draws[0]) & set(draws[2][:1])
    assert all(set(starts) == set(range(6)) for starts in draws[0])


@pytest.mark.parametrize('context', ['fork', 'spawn'])
def test_other_processes_map_the_file(packed, context):
    dataset = PackedImages(data_root=str(packed / 'short-side'), pipeline=PACK)
    loader = torch.utils.data.DataLoader(dataset, 6, num_workers=1, collate_fn=collate_batch, multiprocessing_context=context)
    images = torch.cat([batch['inputs'] for batch in loader])
    assert torch.equal(images, dataset.__getitems__(range(18)).inputs)


def test_the_config_of_the_published_augmentation(packed):
    """Random crops and flips, as whole batches; the evaluated images are cropped in the middle and not flipped."""
    cfg = load_config(f'{BASES}/imagenet_packed_128.py')
    cfg.train_dataloader.dataset.data_root = str(packed / 'short-side')
    train, val = [DATASETS.build(complete_loader(cfg, mode)['dataset']) for mode in ('train', 'val')]
    draws = torch.stack([train.__getitems__([0, 1]).inputs for _ in range(40)])
    assert len({draw.numpy().tobytes() for draw in draws[:, 0]}) > 20
    center = val.__getitems__([0, 1]).inputs
    assert torch.equal(center, val.__getitems__([0, 1]).inputs) and (val.crop, train.crop) == ('center', 'random')
    assert torch.equal(center[0], PackedImages(data_root=str(packed / 'short-side'), pipeline=PACK)[0]['inputs'])


@pytest.mark.parametrize('layout', ['square', 'short-side'])
def test_copies_do_not_take_the_images_along(packed, layout):
    """As where a loader's processes are not forked, or a subset is taken: of a real data set that would be 63 GB."""
    dataset = PackedImages(data_root=str(packed / layout), pipeline=PACK)
    data = pickle.dumps(dataset)
    assert len(data) < 10_000 < dataset._mapped.array.nbytes / 50
    for copied in (pickle.loads(data), dataset.get_subset(10)):
        assert isinstance(copied._mapped.array.base, np.memmap)
        assert torch.equal(copied[7]['inputs'], dataset[7]['inputs'])
    assert len(dataset.get_subset([3, 5])) == 2


def test_as_real_images_of_an_evaluation(packed):
    config = dict(type='PackedImages', data_root=str(packed / 'square'), pipeline=PACK)
    images = RealImages(config, seed=4)
    batches = list(images.batches(18, 5, torch.device('cpu')))
    dataset = PackedImages(data_root=str(packed / 'square'), pipeline=PACK)
    expected = collate_batch([dataset[int(index)] for index in images.order])
    assert torch.equal(torch.cat([batch.images for batch in batches]), expected['inputs'])
    assert torch.equal(torch.cat([batch.label for batch in batches]), expected['labels'])
    assert images.classes == ('n01440764', 'n01443537', 'n01484850') and images.image_size == 128
    assert 'PackedImages' in images.name and 'data_root' not in images.content and 'PackedImages' in images.content


def test_statistics_of_other_packed_images_are_told_apart(tmp_path, packed, imagenet_root):
    """By the recipe: configs of the same data set in two sizes differ in the folder only, which is not part of statistics."""
    pack_dataset(ImageFolder(data_root=str(imagenet_root / 'train')), tmp_path / 'small', 32)
    folders = [packed / 'square', packed / 'short-side', tmp_path / 'small', shutil.copytree(packed / 'square', tmp_path / 'x')]
    contents = [RealImages(dict(type='PackedImages', data_root=str(folder), pipeline=PACK)).content for folder in folders]
    assert len(set(contents)) == 3 and contents[0] == contents[3], 'the same ones in another place are the same'
    assert '"size": 32' in contents[2] and str(tmp_path) not in contents[2]
    gone = RealImages(dict(type=PackedImages, data_root=str(tmp_path / 'gone'), pipeline=PACK))
    assert gone.content == '', 'statistics from a file do without the images'


def test_settings_that_cannot_be(packed):
    with pytest.raises(ConfigError, match="crop='random' needs the whole images.*--layout short-side"):
        PackedImages(data_root=str(packed / 'square'), crop='random')
    with pytest.raises(ConfigError, match="crop must be 'random' or 'center', got 'left'"):
        PackedImages(data_root=str(packed / 'square'), crop='left')
    with pytest.raises(ConfigError, match='take LoadImageFromFile'):
        PackedImages(data_root=str(packed / 'square'), pipeline=[dict(type='LoadImageFromFile'), *PACK])
    with pytest.raises(ConfigError, match="RandomCropLongEdge has nothing to crop; set crop='random' in its place"):
        PackedImages(data_root=str(packed / 'short-side'), pipeline=[dict(type='RandomCropLongEdge'), *PACK])


def test_a_config_of_imagenet_becomes_one_of_a_packed_set(packed):
    """What names the list of images and their folder may stay."""
    dataset = PackedImages(data_root=str(packed / 'square'), ann_file='meta/train.txt', data_prefix='train', pipeline=PACK)
    assert len(dataset) == 18


def test_folders_that_are_no_packed_data_set(tmp_path):
    with pytest.raises(DataError, match='no packed data set .*mmsagan pack'):
        PackedImages(data_root=str(tmp_path / 'gone'))
    (tmp_path / 'packing.jsonl').write_text('')
    with pytest.raises(DataError, match='packing was not finished; run the same command again'):
        PackedImages(data_root=str(tmp_path))


@pytest.mark.parametrize('name', ['images.npy', 'labels.npy', 'sizes.npy'])
def test_truncated_and_missing_files(copy, name):
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-1])
    with pytest.raises(DataError, match=f'{name} has {len(data) - 1} bytes instead of {len(data)}; pack again'):
        PackedImages(data_root=str(copy))
    (copy / name).unlink()
    with pytest.raises(DataError, match=f'{name}.*pack again'):
        PackedImages(data_root=str(copy))


@pytest.mark.parametrize('name', ['labels.npy', 'sizes.npy'])
def test_a_changed_bit_in_the_small_files(copy, name):
    data = bytearray((copy / name).read_bytes())
    data[200] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(DataError, match=f'{name} has another sha256'):
        PackedImages(data_root=str(copy))


def test_foreign_images_of_the_same_length(copy):
    """Another type, another shape, no array at all."""
    path = copy / 'images.npy'
    length = path.stat().st_size
    for array in (np.zeros(length - 128, np.int8), np.zeros((1, length - 128), np.uint8)):
        np.save(path, array)
        assert path.stat().st_size == length
        with pytest.raises(DataError, match=r'images.npy is \(.*pack again'):
            PackedImages(data_root=str(copy))
    path.write_bytes(bytes(length))
    with pytest.raises(DataError, match='damaged.*pack again'):
        PackedImages(data_root=str(copy))


@pytest.mark.parametrize(
    'change, message',
    [
        (lambda recipe: recipe.update(version=2), 'version 2 of the format'),
        (lambda recipe: recipe.update(format='something else'), 'not the recipe'),
        (lambda recipe: recipe.pop('classes'), 'not the recipe'),
        (lambda recipe: recipe['job'].update(layout='round'), 'not the recipe'),
        (lambda recipe: recipe['job'].update(size=64), 'short side is not 64'),
        (lambda recipe: recipe['files'].pop('sizes.npy'), 'not the recipe'),
        (lambda recipe: recipe['files'].update({'../../x': {}}), 'not the recipe'),
        (lambda recipe: recipe['files']['images.npy'].pop('bytes'), 'damaged'),
        (lambda recipe: recipe.update(num_images=17), 'labels.npy is'),
        (lambda recipe: recipe.update(num_images='18'), 'not the recipe'),
        (lambda recipe: recipe.update(classes=5), 'not the recipe'),
        (lambda recipe: recipe.update(classes=[0, 1, 2]), 'not the recipe'),
        (lambda recipe: recipe.update(classes=['a', 'b']), 'label 2 is out of range'),
    ],
)
def test_recipes_that_do_not_fit(copy, change, message):
    recipe = json.loads((copy / 'recipe.json').read_text())
    change(recipe)
    (copy / 'recipe.json').write_text(json.dumps(recipe))
    with pytest.raises(DataError, match=message):
        PackedImages(data_root=str(copy))


@pytest.mark.parametrize('data', [b'', b'{"format": ', b'[1]', b'\xff\xfe'])
def test_a_recipe_that_is_no_json(copy, data):
    (copy / 'recipe.json').write_bytes(data)
    with pytest.raises(DataError, match='recipe.json is damaged or not the recipe'):
        PackedImages(data_root=str(copy))
