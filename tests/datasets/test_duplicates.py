import numpy as np
import pytest
from PIL import Image

from mmsagan.datasets import ImageFolder
from mmsagan.datasets.check import digest_of, same_images, tell_duplicates
from mmsagan.datasets.packed import pack_dataset


def test_groups_in_order():
    names = 'dog cat bird cat dog fish cat'.split()
    assert same_images(b''.join(digest_of(name.encode()) for name in names)) == [[0, 4], [1, 3, 6]]
    assert same_images(b'') == [] and same_images(digest_of(b'one')) == []


def test_many_images_are_compared_at_once():
    numbers = np.random.RandomState(0).permutation(np.arange(20_000) % 15_000)
    groups = same_images(b''.join(digest_of(number.tobytes()) for number in numbers))
    assert len(groups) == 5000 and all(numbers[first] == numbers[second] for first, second in groups)


def test_what_is_said_first():
    """The same image in two classes teaches a conditional GAN that they look alike: it comes before others."""
    groups = [[number, number + 10] for number in range(5)]
    labels = [0] * 14 + [1]
    assert tell_duplicates(groups, labels, str) == '5 images are there more than once, 1 of them in several classes: 4 and 14'
    assert tell_duplicates([[0, 1]], [0, 0], lambda number: f'caf\udce9{number}').endswith(r'caf\udce90 and caf\udce91')
    assert tell_duplicates(groups, [0] * 15, str).endswith('more than once: 0 and 10; 1 and 11; 2 and 12; ...')


@pytest.mark.parametrize('stopped', [False, True])
def test_packing_reports_them(tmp_path, monkeypatch, stopped):
    """Also those on both sides of a stop, and by their names where others could not be read."""
    for index, name in enumerate(['a/0', 'a/1', 'a/2', 'b/3', 'b/4', 'b/5']):
        path = tmp_path / 'images' / f'{name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (8, 8), (index % 4, 0, 0)).save(path)
    (tmp_path / 'images' / 'a' / '1.png').write_bytes(b'damaged')
    dataset = ImageFolder(data_root=str(tmp_path / 'images'), max_unreadable_share=0.5)
    if stopped:
        monkeypatch.setattr('mmsagan.datasets.packed._finish', lambda *_: 1 / 0)
        with pytest.warns(UserWarning, match='unreadable'), pytest.raises(ZeroDivisionError):
            pack_dataset(dataset, tmp_path / 'out', 8, chunk_size=2)
        monkeypatch.undo()
    with pytest.warns(UserWarning) as caught:
        pack_dataset(dataset, tmp_path / 'out', 8, chunk_size=2)
    said = [str(warning.message) for warning in caught]
    assert any('1 image is there more than once, 1 of them in several classes: a/0.png and b/4.png' in text for text in said)
