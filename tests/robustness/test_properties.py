"""Whatever the values are: labels, image modes and sizes, statistics, arguments in a config."""

import inspect
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmsagan.datasets import ArrayDataset, CenterCropLongEdge, LoadImageFromFile, PackInputs, RandomCropLongEdge
from mmsagan.datasets.image_folder import size_of, to_rgb
from mmsagan.engine.config import config_errors
from mmsagan.errors import DataError, MMSAGANError
from mmsagan.evaluation.moments import load_statistics
from mmsagan.registry import DATASETS, METRICS, MODELS, TRANSFORMS

# The same examples in every run, on machines of any speed.
same = settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


# ------------------------------------------------------------------------------------------------------------------- labels


@same
@given(labels=st.lists(st.integers(-2, 6), max_size=12), num_classes=st.integers(0, 5), as_array=st.booleans())
def test_labels_are_taken_if_they_are_of_the_classes_and_every_class_has_one(labels, num_classes, as_array):
    class Given(ArrayDataset):
        def load_arrays(self):
            images = np.arange(len(labels), dtype=np.uint8)[:, None, None].repeat(4, 1)
            return images, np.array(labels, np.int32) if as_array else labels, [str(number) for number in range(num_classes)]

    if set(labels) == set(range(num_classes)):
        assert Given().labels.tolist() == labels
    else:
        with pytest.raises(DataError, match='out of range|no images in'):
            Given()


@same
@given(labels=st.lists(st.one_of(st.floats(), st.text(max_size=2), st.none(), st.integers()), min_size=1, max_size=4))
def test_labels_of_any_type(labels):
    class Given(ArrayDataset):
        def load_arrays(self):
            return np.zeros((len(labels), 4, 4), np.uint8), labels, ['only']

    if all(type(label) is int and label == 0 for label in labels):
        with pytest.warns(UserWarning, match='more than once') if len(labels) > 1 else io.BytesIO():
            Given()
    else:
        with pytest.raises(DataError, match='integer|out of range'):
            Given()


# ------------------------------------------------------------------------------------------------------------------- images

SAVED_AS = {
    'PNG': ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'I;16'),
    'TIFF': ('1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'YCbCr', 'LAB', 'I', 'I;16', 'I;16B', 'F'),
    'JPEG': ('L', 'RGB', 'CMYK', 'YCbCr'),
    'WEBP': ('RGB', 'RGBA'),
    'GIF': ('L', 'P', 'RGB'),
    'BMP': ('1', 'L', 'P', 'RGB'),
    'PPM': ('1', 'L', 'RGB'),
}
KINDS = st.sampled_from([(format, mode) for format, modes in SAVED_AS.items() for mode in modes])


def picture(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """A random image of any mode, with its parts in place."""
    random = np.random.RandomState(seed)
    if mode == 'F':
        return Image.fromarray(random.uniform(-50, 300, (height, width)).astype(np.float32))
    if mode.startswith('I'):
        return Image.fromarray(random.randint(0, 2**16, (height, width)).astype(np.int32 if mode == 'I' else np.uint16))
    bands = len(Image.new(mode, (1, 1)).getbands())
    image = Image.frombytes('L' if bands == 1 else mode, (width, height), random.bytes(width * height * bands))
    return image.convert(mode) if bands == 1 else image


@same
@given(
    kind=KINDS,
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    size=st.integers(1, 40),
    at_random=st.booleans(),
    turned=st.integers(0, 9),
    seed=st.integers(0, 99),
)
def test_images_of_every_mode_and_size_become_rgb_squares(tmp_path, kind, width, height, size, at_random, turned, seed):
    format, mode = kind
    image = picture(mode, width, height, seed)
    options = {}
    if format in ('JPEG', 'PNG', 'TIFF', 'WEBP'):
        exif = image.getexif()
        exif[0x0112] = turned
        options = dict(exif=exif)
    image.save(tmp_path / 'image', format, **options)
    results = LoadImageFromFile()(dict(img_path=str(tmp_path / 'image'), gt_label=3))
    assert results['img'].shape in ((height, width, 3), (width, height, 3))
    assert results['img'].shape[1::-1] == size_of(tmp_path / 'image')
    crop = RandomCropLongEdge() if at_random else CenterCropLongEdge()
    resize = TRANSFORMS.build(dict(type='Resize', scale=(size, size), backend='pillow'))
    packed = PackInputs()(resize(crop(results)))
    assert packed['inputs'].shape == (3, size, size) and packed['inputs'].dtype == torch.uint8 and packed['labels'] == 3


@same
@given(mode=st.sampled_from(['1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr', 'HSV', 'I', 'F', 'I;16']))
def test_modes_that_files_do_not_have(mode):
    assert to_rgb(Image.new(mode, (5, 4))).mode == 'RGB'


# --------------------------------------------------------------------------------------------------------------- statistics


@same
@given(
    mean=st.lists(st.integers(0, 4), max_size=3),
    cov=st.lists(st.integers(0, 4), max_size=3),
    dtype=st.sampled_from(['f2', '>f4', 'f8', 'i4', 'u1', '?', 'c8', 'S2', 'O']),
    archived=st.booleans(),
)
def test_statistics_of_every_shape_and_type(tmp_path, mean, cov, dtype, archived):
    path = tmp_path / 'statistics.pkl'
    content = dict(mean=np.zeros(mean, dtype), cov=np.zeros(cov, dtype))
    buffer = io.BytesIO()
    np.savez(buffer, **content)
    path.write_bytes(buffer.getvalue() if archived else pickle.dumps(content, protocol=2))
    is_good = len(mean) == 1 and mean[0] > 0 and cov == mean * 2 and np.dtype(dtype).kind in 'iuf'
    if is_good:
        assert load_statistics(path).cov.shape == tuple(cov)
    else:
        with pytest.raises(DataError, match=r'statistics\.pkl'):
            load_statistics(path)


# ------------------------------------------------------------------------------------------------------------------ configs

GENERATOR = dict(output_scale=32, base_channels=8, noise_size=16, num_classes=3, attention_after_nth_block=2)
DISCRIMINATOR = dict(input_scale=32, base_channels=8, num_classes=3, attention_after_nth_block=1)
GAN = dict(
    num_classes=3,
    generator=dict(GENERATOR, type='SAGANGenerator'),
    discriminator=dict(DISCRIMINATOR, type='ProjDiscriminator'),
)
NEEDED = {
    'SAGANGenerator': GENERATOR,
    'ProjDiscriminator': DISCRIMINATOR,
    'ACDiscriminator': DISCRIMINATOR,
    'SAGAN': GAN,
    'SelfAttentionBlock': dict(in_channels=8),
    'ResidualAttentionSubstitute': dict(in_channels=8),
}
SEVERAL_NAMES = ('SNGAN', 'SNGANGenerator')  # aliases


def components() -> list[tuple]:
    """The public components and their arguments: (registry, type, argument)."""
    found = []
    for registry in (MODELS, METRICS, DATASETS, TRANSFORMS):
        for name, kind in registry.module_dict.items():
            if kind.__module__.startswith('mmsagan') and name not in SEVERAL_NAMES and inspect.isclass(kind):
                arguments = inspect.signature(kind).parameters.values()
                plain = [each.name for each in arguments if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
                plain += ['indices', 'ann_file', 'metainfo', 'max_unreadable_share'] if registry is DATASETS else []
                found += [(registry, name, argument) for argument in sorted(set(plain))]
    # These read their files first, which takes seconds or is not to be had.
    return [each for each in found if each[1] not in ('EmbeddedMNIST', 'FashionMNIST')]


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-3, 70),
    st.floats(),
    st.floats(-2, 2),
    st.text(max_size=8),
    st.sampled_from([2**31, 2**63, 10**12, 'relu', 'ReLU', 'SAGAN', 'studio', 'orig', 'center']),
)
VALUES = st.recursive(
    SCALARS,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3),
        st.tuples(parts, parts),
        st.dictionaries(st.sampled_from(['type', 'img_path', 'momentum', 'classes', 'a']), parts, max_size=3),
    ),
    max_leaves=4,
)


@settings(same, max_examples=300)
@given(data=st.data())
def test_arguments_of_components_are_taken_or_are_mistakes_in_the_config(
    data, imagenet_root, cifar_root, tmp_path, monkeypatch
):
    """Built where tensors take no memory: a network may be as large as its config says."""
    monkeypatch.chdir(tmp_path)
    registry, name, argument = data.draw(st.sampled_from(components()))
    needed = dict(NEEDED.get(name, {}))
    if registry is DATASETS:
        root = dict(CIFAR10=cifar_root, ImageFolder=imagenet_root / 'train', ImageNet=imagenet_root)
        needed = dict(data_root=str(root.get(name, tmp_path)), pipeline=[dict(type='PackInputs')], serialize_data=False)
    config = dict(needed, type=name, **{} if argument in needed else {})
    config[argument] = data.draw(VALUES)
    with torch.device('meta'), pytest.MonkeyPatch.context() as patch:
        # Of an extractor that would be fetched: no test asks the network for anything.
        patch.setenv('TORCH_HOME', str(tmp_path))
        try:
            with config_errors():
                registry.build(config)
        except MMSAGANError as error:
            assert str(error)
    assert not [path for path in Path(tmp_path).iterdir() if path.suffix == '.pth']
