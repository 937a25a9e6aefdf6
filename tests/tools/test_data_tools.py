"""The tools that check and pack data sets, and a training on a packed one."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.apis import train_from_config
from mmsagan.datasets import ImageNet, PackedImages
from mmsagan.datasets.check import describe_duplicates, find_duplicates

CHECK, PACK = 'misc/check_data.py', 'dataset_converters/pack_images.py'
PIPELINE = [dict(type='PackInputs')]


@pytest.fixture
def broken(tmp_path, imagenet_root):
    """The ImageNet-like fixture, which is clean, with one mistake of each kind."""
    root = shutil.copytree(imagenet_root, tmp_path / 'imagenet')
    first, second, third = sorted(path for path in (root / 'train').iterdir())
    damaged = sorted(first.iterdir())[3]
    damaged.write_bytes(damaged.read_bytes()[:400])
    (first / 'no_image.png').write_text('text')
    with Image.open(sorted(second.iterdir())[0]) as image:
        image.save(third / 'copy.png')  # the same pixels in another file and class
        image.save(second / 'copy.png')
    Image.new('L', (150, 100)).save(third / 'small.png')
    (root / 'train' / 'empty').mkdir()
    return root / 'train'


# ----------------------------------------------------------------------------------------------------------------- checking


def test_groups_of_duplicates_in_order():
    names = 'dog cat bird cat dog fish cat'.split()
    assert find_duplicates([name.encode() for name in names]) == [[0, 4], [1, 3, 6]]
    assert find_duplicates([]) == find_duplicates([b'one']) == []


def test_duplicates_in_several_classes_come_first():
    """The same image in two classes teaches a conditional GAN that they look alike."""
    groups = [[number, number + 10] for number in range(5)]
    assert describe_duplicates(groups, [0] * 14 + [1], str).endswith('1 of them in several classes: 4 and 14')
    assert describe_duplicates(groups, [0] * 15, str).endswith(': 0 and 10; 1 and 11; 2 and 12; ...')
    assert describe_duplicates([[0, 1]], [0, 0], lambda number: f'caf\udce9{number}').endswith(r'caf\udce90 and caf\udce91')


def test_a_clean_folder_and_images_in_memory(run_here, imagenet_root, cifar_root):
    code, output, errors = run_here(CHECK, imagenet_root / 'train', '--workers', 1)
    assert code == 0 and ': 18 images, 3 classes' in output and 'modes: RGB (18)' in output, errors
    option = f'train_dataloader.dataset.data_root={cifar_root}'
    code, output, _ = run_here(CHECK, 'sagan_32_woReLUinplace_cifar10_b64x1', '--cfg-options', option)
    assert code == 0 and 'minimum 10, median 10, maximum 10' in output and '32x32 (100)' in output


def test_every_problem_is_named(run_here, broken):
    code, output, _ = run_here(CHECK, broken, '--size', 128, '--workers', 1)
    lines = [line.strip() for line in output.splitlines()]
    assert code == 1 and 'minimum 0, median 7, maximum 8' in lines[1] and 'modes: RGB (19), L (1)' in lines
    names = ['n01440764', 'n01443537', 'n01484850']
    copies = [f'{broken}/{names[1]}/copy.png ({names[1]})', f'{broken}/{names[1]}/{names[1]}_0.JPEG ({names[1]})']
    expected = [
        ('1 classes without images:', 'empty'),
        ('2 images that cannot be read:', f'{broken}/{names[0]}/{names[0]}_3.JPEG ('),
        ('1 images that occur more than once, in several classes:', ', '.join(copies)),
        ('1 images smaller than 128 pixels:', f'{broken}/{names[2]}/small.png (150x100)'),
    ]
    for heading, item in expected:
        assert lines[lines.index(heading) + 1].startswith(item), heading


def test_a_config_brings_its_size_and_number_of_classes(run_here, broken, tmp_path):
    (broken / '..' / 'meta' / 'train.txt').write_text(
        'n01440764/gone.JPEG 0\nn01443537/n01443537_1.JPEG 2\nn01443537/n01443537_2.JPEG 2\n'
    )
    (tmp_path / 'config.py').write_text(f"""
model = dict(num_classes=5, generator=dict(output_scale=200))
train_dataloader = dict(dataset=dict(type='ImageNet', data_root={str(broken.parent)!r}, pipeline=[dict(type='Gone')]))
""")
    code, output, _ = run_here(CHECK, tmp_path / 'config.py', '--workers', 1)
    lines = [line.strip() for line in output.splitlines()]
    assert code == 1 and 'the model has 5 classes, the data set 3' in lines
    assert lines[lines.index('1 classes without images:') + 1] == 'class 1'
    assert 'gone.JPEG' in lines[lines.index('1 images that cannot be read:') + 1]
    options = ['--cfg-options', 'train_dataloader.dataset.ann_file=', 'model.num_classes=4']
    code, output, _ = run_here(CHECK, tmp_path / 'config.py', '--workers', 1, *options)
    assert code == 1 and 'the model has' not in output and '20 images smaller than 200 pixels' in output


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([CHECK, 'gone'], 'gone'),
        ([CHECK, 'tests/tools'], 'tests/tools'),
        ([CHECK, 'configs/_base_/default_runtime.py'], 'train_dataloader'),
        ([CHECK, 'docs', '--cfg-options', 'a=1'], '--cfg-options'),
        ([PACK, 'gone', '--out', 'OUT'], 'gone'),
        ([PACK, '--out', 'OUT'], '--data-cfg'),
        ([PACK, '--data-cfg', 'configs/_base_/default_runtime.py', '--out', 'OUT'], 'train_dataloader'),
        ([PACK, '--data-cfg', 'ImageFoldr', '--out', 'OUT'], "'ImageFolder'"),
        ([PACK, '--data-cfg', 'ConcatDataset', '--out', 'OUT'], 'ConcatDataset'),
    ],
)
def test_mistakes(run_here, tmp_path, arguments, message):
    if '--data-cfg' in arguments and not arguments[2].endswith('.py'):
        (tmp_path / 'config.py').write_text(f'train_dataloader = dict(dataset=dict(type={arguments[2]!r}))')
        arguments = [*arguments[:2], tmp_path / 'config.py', *arguments[3:]]
    code, _, errors = run_here(*(tmp_path / 'out' if part == 'OUT' else part for part in arguments))
    assert code == 2 and message in errors and 'Traceback' not in errors and not (tmp_path / 'out').exists()


def test_names_that_are_not_utf8(run_here, tmp_path):
    """They are told with their bytes, on an output that takes UTF-8 only."""
    folder = os.fsencode(tmp_path / 'images') + b'/caf\xe9'
    os.makedirs(folder)
    for name in (b'a.png', b'\xff.png'):
        with open(folder + b'/' + name, 'wb') as file:
            Image.new('RGB', (20, 20)).save(file, 'PNG')
    code, output, errors = run_here(CHECK, tmp_path / 'images', '--workers', 1)
    assert code == 1 and r'caf\udce9/\udcff.png' in output, errors
    out = os.fsdecode(os.fsencode(tmp_path) + b'/caf\xe9')
    code, output, errors = run_here(PACK, tmp_path / 'images', '--size', 8, '--out', out, '--workers', 1)
    assert code == 0 and repr(out) in output and len(PackedImages(data_root=out)) == 2, errors


# ------------------------------------------------------------------------------------------------------------------ packing


def test_the_command_of_the_documentation(run_here, tmp_path, broken, recwarn):
    (broken / 'empty').rmdir()
    arguments = [PACK, broken, '--out', tmp_path / 'out', '--workers', 1]
    code, _, errors = run_here(*arguments, '--size', 32)
    assert code == 2 and '1 of 22 images cannot be read' in errors
    code, output, errors = run_here(*arguments, '--size', 32, '--max-unreadable-share', 0.1)
    assert code == 0 and '20 images, 3 classes' in output and '2 images cannot be read' in output, errors
    dataset = eval(output.splitlines()[-1].partition('dataset=')[2], dict(dict=dict))
    assert dataset.pop('type') == 'PackedImages'
    dataset = PackedImages(**dataset)
    assert len(dataset) == 20 and dataset[0]['inputs'].shape == (3, 32, 32)
    code, _, errors = run_here(*arguments, '--size', 64)
    assert code == 2 and 'size=32' in errors


@pytest.mark.parametrize('way', ['--meta', '--data-cfg'])
def test_a_list_of_images(run_here, tmp_path, imagenet_root, way):
    """The data set of a config has its images in the same order, and so has one made with the list that it names."""
    root = shutil.copytree(imagenet_root, tmp_path / 'imagenet')
    lines = (root / 'meta' / 'train.txt').read_text().splitlines()
    (root / 'meta' / 'train.txt').write_text('\n'.join(lines[::-1][:17]))
    arguments = [root / 'train', '--meta', root / 'meta' / 'train.txt']
    if way == '--data-cfg':
        base = os.path.abspath('configs/_base_/datasets/imagenet_128.py')
        (tmp_path / 'config.py').write_text(
            f'_base_ = {base!r}\ntrain_dataloader = dict(dataset=dict(data_root={str(root)!r}))\n'
        )
        arguments = [way, tmp_path / 'config.py']
    options = ['--layout', 'short-side', '--size', 16, '--out', tmp_path / 'out', '--workers', 1]
    code, _, errors = run_here(PACK, *arguments, *options)
    assert code == 0, errors
    unpacked, packed = ImageNet(data_root=str(root)), PackedImages(data_root=str(tmp_path / 'out'), pipeline=PIPELINE)
    for index in range(17):
        entry = unpacked.get_data_info(index)
        image = Image.open(entry['img_path'])
        scale = 16 / min(image.size)
        pixels = np.asarray(image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR))
        top, left = ((side - 16) // 2 for side in pixels.shape[:2])
        assert np.array_equal(packed[index]['inputs'], pixels[top : top + 16, left : left + 16].transpose(2, 0, 1))
        assert packed[index]['labels'] == entry['gt_label']


@pytest.mark.slow
def test_a_training_on_a_packed_set(run_here, tmp_path, tiny_run, imagenet_root):
    """A leaf that takes the base of the packed set in place of the unpacked one, with flips on the device."""
    options = ['--layout', 'short-side', '--size', 32, '--out', tmp_path / 'out', '--workers', 1]
    assert run_here(PACK, imagenet_root / 'train', *options)[0] == 0
    dataset = dict(type='PackedImages', data_root=str(tmp_path / 'out'), crop='random', pipeline=PIPELINE)
    cfg = tiny_run(
        max_iters=2,
        **{
            'model.num_classes': 3,
            'model.data_preprocessor.flip_prob': 0.5,
            'train_dataloader.collate_fn.type': 'mmsagan.collate_batch',
            'train_dataloader.dataset': dict(dataset, _delete_=True),
        },
    )
    runner = train_from_config(cfg)
    assert runner.iter == 2 and all(torch.isfinite(parameter).all() for parameter in runner.model.parameters())
