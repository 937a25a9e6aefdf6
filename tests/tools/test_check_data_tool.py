"""Duplicates, and the tool that reads every image of a data set."""

import os
import shutil

import pytest
from launching import run_tool
from PIL import Image

from mmsagan.datasets.check import describe_duplicates, find_duplicates

TOOL = 'misc/check_data.py'


def lines_of(output: str) -> list[str]:
    return [line.strip() for line in output.splitlines()]


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


def test_a_clean_folder(run_here, imagenet_root):
    code, output, errors = run_here(TOOL, imagenet_root / 'train', '--workers', 1)
    assert code == 0, errors
    lines = lines_of(output)
    assert lines[0].endswith(': 18 images, 3 classes') and lines[-1] == 'no problems found'
    assert 'images per class: minimum 6, median 6, maximum 6' in lines and 'modes: RGB (18)' in lines


def test_every_finding_is_named(run_here, broken):
    code, output, _ = run_here(TOOL, broken, '--size', 128, '--workers', 1)
    lines = lines_of(output)
    assert code == 1
    assert lines[1] == 'images per class: minimum 0, median 7, maximum 8' and 'modes: RGB (19), L (1)' in lines
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


@pytest.mark.slow
def test_processes_find_the_same(run_here, broken):
    assert run_here(TOOL, broken, '--workers', 1) == run_here(TOOL, broken, '--workers', 2)


def test_a_config_brings_its_size_and_number_of_classes(run_here, broken, tmp_path):
    (broken / '..' / 'meta' / 'train.txt').write_text(
        'n01440764/gone.JPEG 0\nn01443537/n01443537_1.JPEG 2\nn01443537/n01443537_2.JPEG 2\n'
    )
    (tmp_path / 'config.py').write_text(f"""
model = dict(num_classes=5, generator=dict(output_scale=200))
train_dataloader = dict(dataset=dict(type='ImageNet', data_root={str(broken.parent)!r}, pipeline=[dict(type='Gone')]))
""")
    code, output, _ = run_here(TOOL, tmp_path / 'config.py', '--workers', 1)
    lines = lines_of(output)
    assert code == 1 and 'the model has 5 classes, the data set 3' in lines
    assert lines[lines.index('1 classes without images:') + 1] == 'class 1'
    assert 'gone.JPEG' in lines[lines.index('1 images that cannot be read:') + 1]
    code, output, _ = run_here(
        TOOL,
        tmp_path / 'config.py',
        '--workers',
        1,
        '--cfg-options',
        'train_dataloader.dataset.ann_file=',
        'model.num_classes=4',
    )
    assert code == 1 and 'the model has' not in output and '20 images smaller than 200 pixels' in output


def test_images_in_memory(run_here, cifar_root):
    option = f'train_dataloader.dataset.data_root={cifar_root}'
    code, output, _ = run_here(TOOL, 'sagan_32_woReLUinplace_cifar10_b64x1', '--cfg-options', option)
    assert code == 0 and 'minimum 10, median 10, maximum 10' in output and '32x32 (100)' in output


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['gone'], 'gone'),
        (['tests/tools'], 'no images'),
        (['configs/_base_/default_runtime.py'], 'no train_dataloader'),
        (['docs', '--cfg-options', 'a=1'], 'goes with a config'),
    ],
)
def test_mistakes(run_here, arguments, message):
    code, _, errors = run_here(TOOL, *arguments)
    assert code == 2 and message in errors and 'Traceback' not in errors


def test_names_that_are_not_utf8(tmp_path):
    """They are told with their bytes, on an output that takes UTF-8 only."""
    folder = os.fsencode(tmp_path / 'images') + b'/caf\xe9'
    os.makedirs(folder)
    for name in (b'a.png', b'\xff.png'):
        with open(folder + b'/' + name, 'wb') as file:
            Image.new('RGB', (20, 20)).save(file, 'PNG')
    result = run_tool(f'tools/{TOOL}', tmp_path / 'images', '--workers', 1)
    assert result.returncode == 1 and r'caf\udce9/\udcff.png' in result.stdout, result.stderr
