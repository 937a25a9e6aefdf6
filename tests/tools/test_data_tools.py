"""The tools that check and pack data sets."""

import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mmsagan.datasets import ImageNet, PackedImages

CHECK, PACK = 'misc/check_data.py', 'dataset_converters/pack_images.py'


@pytest.fixture
def broken(tmp_path, imagenet_root):
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


def test_a_clean_folder_and_images_in_memory(run_here, imagenet_root, cifar_root):
    code, output, errors = run_here(CHECK, imagenet_root / 'train', '--workers', 1)
    assert code == 0 and ': 18 images, 3 classes' in output and 'modes: RGB (18)' in output, errors
    option = f'train_dataloader.dataset.data_root={cifar_root}'
    code, output, _ = run_here(CHECK, 'sagan_32_woReLUinplace_cifar10_b64x1', '--cfg-options', option)
    assert code == 0 and 'minimum 10, median 10, maximum 10' in output and '32x32 (100)' in output


def test_every_problem_is_named(run_here, broken):
    names = ['n01440764', 'n01443537', 'n01484850']
    shutil.copy(broken / names[0] / f'{names[0]}_0.JPEG', broken / names[0] / 'again.JPEG')
    code, output, _ = run_here(CHECK, broken, '--size', 128, '--workers', 1)
    lines = [line.strip() for line in output.splitlines()]
    assert code == 1 and 'minimum 0, median 7.5, maximum 8' in lines[1] and 'modes: RGB (20), L (1)' in lines
    copies = [f'{broken}/{names[1]}/copy.png ({names[1]})', f'{broken}/{names[1]}/{names[1]}_0.JPEG ({names[1]})']
    expected = [
        ('classes without images: 1', 'empty'),
        ('images that cannot be read: 2', f'{broken}/{names[0]}/{names[0]}_3.JPEG ('),
        ('images that occur more than once, in several classes: 1', ', '.join(copies)),
        ('images that occur more than once, in one class: 1', f'{broken}/{names[0]}/again.JPEG ('),
        ('images smaller than 128 pixels: 1', f'{broken}/{names[2]}/small.png (150x100)'),
    ]
    for heading, item in expected:
        assert lines[lines.index(heading) + 1].startswith(item), heading


def test_what_is_odd_without_an_expectation(run_here, tmp_path):
    """Without --size, images much smaller than the others; nearly black and animated ones; and what is left out."""
    random = np.random.RandomState(0)
    for number, size in enumerate([24, 24, 30, 14, 11]):
        (tmp_path / f'{number % 2}').mkdir(exist_ok=True)
        image = Image.fromarray(random.randint(256, size=(size, 30, 3), dtype=np.uint8))
        image.save(tmp_path / f'{number % 2}' / f'{number}.png')
    image.save(tmp_path / '1' / 'pages.tif', save_all=True, append_images=[image.rotate(90)])
    photo = Image.fromarray(random.randint(256, size=(24, 24, 3), dtype=np.uint8))
    photo.save(tmp_path / '1' / 'photo.jpg', format='MPO', save_all=True, append_images=[photo])  # with a preview: not odd
    Image.fromarray(random.randint(4096, size=(24, 30)).astype(np.uint16)).save(tmp_path / '0' / 'scan.png')
    for name in ('0/photo.heic', '0/notes.txt'):
        (tmp_path / name).touch()
    code, output, _ = run_here(CHECK, tmp_path, '--workers', 1)
    lines = [line.strip() for line in output.splitlines()]
    assert code == 1 and "labels: 0 is '0', 1 is '1'" in lines
    expected = [
        ('images smaller than 12 pixels, half of the usual 24: 2', '0/4.png (30x11)'),
        ('images whose values use a small part of their range: 1', '0/scan.png ('),
        ('images of several pages or frames, of which the first is used: 1', '1/pages.tif (2)'),
        ('.heic, left out: 1', '0/photo.heic'),
        ('.txt, left out: 1', '0/notes.txt'),
    ]
    for heading, item in expected:
        assert lines[lines.index(heading) + 1].startswith(f'{tmp_path}/{item}'), heading
    for name in ('0/4.png', '0/scan.png', '1/pages.tif', '0/photo.heic'):
        (tmp_path / name).unlink()
    assert run_here(CHECK, tmp_path, '--workers', 1)[0] == 0, 'other files may belong there'


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
    assert lines[lines.index('classes without images: 1') + 1] == 'class 1'
    assert 'gone.JPEG' in lines[lines.index('images that cannot be read: 1') + 1]
    options = ['--cfg-options', 'train_dataloader.dataset.ann_file=', 'model.num_classes=4']
    code, output, _ = run_here(CHECK, tmp_path / 'config.py', '--workers', 1, *options)
    assert code == 1 and 'the model has' not in output and 'images smaller than 200 pixels: 20' in output


@pytest.mark.parametrize(
    'arguments, message',
    [
        ([CHECK, 'gone'], 'gone'),
        ([CHECK, 'configs/_base_/default_runtime.py'], 'train_dataloader'),
        ([PACK, '--data-cfg', 'ImageFoldr', '--out', 'OUT'], "'ImageFolder'"),
    ],
)
def test_mistakes(run_here, tmp_path, arguments, message):
    if '--data-cfg' in arguments and not arguments[2].endswith('.py'):
        (tmp_path / 'config.py').write_text(f'train_dataloader = dict(dataset=dict(type={arguments[2]!r}))')
        arguments = [*arguments[:2], tmp_path / 'config.py', *arguments[3:]]
    code, _, errors = run_here(*(tmp_path / 'out' if part == 'OUT' else part for part in arguments))
    assert code == 2 and message in errors and 'Traceback' not in errors and not (tmp_path / 'out').exists()


def test_the_command_of_the_documentation(run_here, tmp_path, broken, recwarn):
    (broken / 'empty').rmdir()
    arguments = [PACK, broken, '--out', tmp_path / 'out', '--workers', 1]
    code, _, errors = run_here(*arguments, '--size', 32)
    assert code == 2 and '1 of 22 images cannot be read' in errors
    code, output, errors = run_here(*arguments, '--size', 32, '--max-unreadable-share', 0.1)
    assert code == 0 and '20 images, 3 classes' in output and 'skipped: 2' in output, errors
    dataset = eval(output.splitlines()[-1].partition('dataset=')[2], dict(dict=dict))
    assert dataset.pop('type') == 'PackedImages'
    dataset = PackedImages(**dataset)
    assert len(dataset) == 20 and dataset[0]['inputs'].shape == (3, 32, 32)
    code, _, errors = run_here(*arguments, '--size', 64)
    assert code == 2 and 'size=32' in errors


def test_a_list_of_images(run_here, tmp_path, imagenet_root):
    """The order of the images is that of the list, whether a config or an option names it."""
    root = shutil.copytree(imagenet_root, tmp_path / 'imagenet')
    lines = (root / 'meta' / 'train.txt').read_text().splitlines()
    (root / 'meta' / 'train.txt').write_text('\n'.join(lines[::-1][:17]))
    base, config = os.path.abspath('configs/_base_/datasets/imagenet_128.py'), tmp_path / 'config.py'
    config.write_text(f'_base_ = {base!r}\ntrain_dataloader = dict(dataset=dict(data_root={str(root)!r}))\n')
    unpacked, packed = ImageNet(data_root=str(root)), []
    for arguments in (['--data-cfg', config], [root / 'train', '--meta', root / 'meta' / 'train.txt']):
        out = tmp_path / f'out{len(packed)}'
        code, _, errors = run_here(PACK, *arguments, '--size', 16, '--out', out, '--workers', 1)
        assert code == 0, errors
        packed.append(PackedImages(data_root=str(out), pipeline=[dict(type='PackInputs')]))
    for index in range(17):
        first, second = packed[0][index], packed[1][index]
        assert torch.equal(first['inputs'], second['inputs'])
        assert first['labels'] == second['labels'] == unpacked.get_data_info(index)['gt_label']
