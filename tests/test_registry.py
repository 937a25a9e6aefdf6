"""Other names of components stand in one table, and lead to the same classes everywhere."""

import pytest
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope

from mmsagan.engine.config import find_component
from mmsagan.errors import ConfigError
from mmsagan.registry import ALIASES, METRICS, MODELS, AliasedRegistry

# The types that MMagic's configs of SAGAN and SNGAN name, see issue 5.
MMAGIC_TYPES = (
    'SAGAN', 'SNGAN', 'SAGANGenerator', 'SNGANGenerator', 'ProjDiscriminator', 'SelfAttentionBlock', 'DataPreprocessor',
    'VisualizationHook', 'InceptionScore', 'FrechetInceptionDistance', 'MultiOptimWrapperConstructor', 'MultiValLoop',
    'MultiTestLoop', 'Evaluator', 'CIFAR10', 'ImageNet', 'PackInputs', 'RandomCropLongEdge', 'CenterCropLongEdge',
)  # fmt: skip


@pytest.mark.parametrize('name', MMAGIC_TYPES)
def test_what_mmagic_configs_name_is_of_this_package(name):
    assert find_component(name, 'model.type').__module__.startswith('mmsagan.')


@pytest.mark.parametrize('alias, name', ALIASES.items())
def test_an_alias_is_the_component_itself(alias, name):
    component = find_component(name, 'type')
    assert find_component(alias, 'type') is component and component.__name__ == name


def test_aliases_work_wherever_types_are_looked_up(gan_config):
    assert type(MODELS.build(dict(gan_config(), type='SNGAN'))).__name__ == 'ConditionalGAN'
    assert MODELS.get('mmsagan.SNGANGenerator') is MODELS.get('SAGANGenerator') is ROOT_MODELS.get('mmsagan.SNGANGenerator')
    assert 'SNGAN' in MODELS and METRICS.get('SNGAN') is None
    with DefaultScope.overwrite_default_scope('mmsagan'):
        assert ROOT_MODELS.build(dict(type='EditDataPreprocessor')).__class__ is MODELS.get('DataPreprocessor')


def test_a_component_of_ones_own_goes_before_an_alias():
    own = AliasedRegistry('own')
    own.register_module(name='FID', module=int)
    assert own.get('FID') is int


def test_a_misspelt_alias_is_recognized():
    with pytest.raises(ConfigError, match="did you mean 'SNGANGenerator'"):
        find_component('SNGANGenerater', 'model.generator.type')
