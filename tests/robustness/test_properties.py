"""Any value of any argument of a component in a config."""

import functools
import inspect

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmsagan.engine.config import config_errors
from mmsagan.errors import MMSAGANError
from mmsagan.registry import DATASETS, METRICS, MODELS, TRANSFORMS

GENERATOR = dict(output_scale=32, base_channels=8, noise_size=16, num_classes=3, attention_after_nth_block=2)
DISCRIMINATOR = dict(input_scale=32, base_channels=8, num_classes=3, attention_after_nth_block=1)
NEEDED = {
    'SAGANGenerator': GENERATOR,
    'ProjDiscriminator': DISCRIMINATOR,
    'ACDiscriminator': DISCRIMINATOR,
    'SAGAN': dict(
        num_classes=3,
        generator=dict(GENERATOR, type='SAGANGenerator'),
        discriminator=dict(DISCRIMINATOR, type='ProjDiscriminator'),
    ),
    'SelfAttentionBlock': dict(in_channels=8),
    'ResidualAttentionSubstitute': dict(in_channels=8),
}


@functools.cache
def components() -> list[tuple]:
    """Returns the public components and their arguments: (registry, type, argument)."""
    found = []
    for registry in (MODELS, METRICS, DATASETS, TRANSFORMS):
        for name, kind in registry.module_dict.items():
            if kind.__module__.startswith('mmsagan') and name not in ('SNGAN', 'SNGANGenerator') and inspect.isclass(kind):
                arguments = inspect.signature(kind).parameters.values()
                plain = [each.name for each in arguments if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
                plain += ['indices', 'ann_file', 'metainfo', 'max_unreadable_share'] if registry is DATASETS else []
                found += [(registry, name, argument) for argument in sorted(set(plain))]
    # These read or download their files first.
    return [each for each in found if each[1] not in ('EmbeddedMNIST', 'FashionMNIST')]


SCALARS = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    st.sampled_from([2**31, 2**63, 10**12, 'relu', 'ReLU', 'SAGAN', 'studio', 'orig', 'center']),
)
KEYS = st.sampled_from(['type', 'img_path', 'momentum', 'classes', 'a'])
VALUES = st.recursive(
    SCALARS,
    lambda parts: st.lists(parts, max_size=3) | st.tuples(parts, parts) | st.dictionaries(KEYS, parts, max_size=3),
    max_leaves=4,
)


@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_arguments_of_components_are_taken_or_are_mistakes_in_the_config(
    data, imagenet_root, cifar_root, tmp_path, monkeypatch
):
    """Networks of any size are built on the meta device, where they take no memory."""
    monkeypatch.chdir(tmp_path)
    registry, name, argument = data.draw(st.sampled_from(components()))
    needed = dict(NEEDED.get(name, {}))
    if registry is DATASETS:
        root = dict(CIFAR10=cifar_root, ImageFolder=imagenet_root / 'train', ImageNet=imagenet_root)
        needed = dict(data_root=str(root.get(name, tmp_path)), pipeline=[dict(type='PackInputs')], serialize_data=False)
    config = dict(needed, type=name) | {argument: data.draw(VALUES)}
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))  # an extractor must not be downloaded
    with torch.device('meta'):
        try:
            with config_errors():
                registry.build(config)
        except MMSAGANError as error:
            assert str(error)
    assert not list(tmp_path.glob('*.pth'))
