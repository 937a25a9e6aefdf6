"""MMSAGAN's registries: children of MMEngine's, scope ``mmsagan``.

A type name in a config is looked up here first and then in MMEngine's root registries, so ``Adam`` or ``CheckpointHook``
resolve too. To add your own component, register it here and add its module to ``custom_imports`` of the config.
"""

from mmengine import registry as root
from mmengine.registry import Registry

SCOPE = 'mmsagan'
# Other names of components: MMagic's, and short ones. A component itself is registered by the name of its class.
ALIASES = {
    'SAGAN': 'ConditionalGAN',
    'SNGAN': 'ConditionalGAN',
    'SNGANGenerator': 'SAGANGenerator',
    'SAGANDiscriminator': 'ProjDiscriminator',
    'MultiValLoop': 'GANValLoop',
    'MultiTestLoop': 'GANTestLoop',
    'GANEvaluator': 'Evaluator',
    'FID': 'FrechetInceptionDistance',
    'IS': 'InceptionScore',
    'KID': 'KernelInceptionDistance',
    'sFID': 'SpatialFID',
    'PR': 'PrecisionRecall',
    'PrecisionAndRecall': 'PrecisionRecall',
    # MMagic before its release 1.0
    'EditDataPreprocessor': 'DataPreprocessor',
    'GenVisualizationHook': 'VisualizationHook',
    'GenValLoop': 'GANValLoop',
    'GenTestLoop': 'GANTestLoop',
    'GenEvaluator': 'Evaluator',
}


class AliasedRegistry(Registry):
    """A registry that also looks its components up by :data:`ALIASES`; registered names take precedence."""

    def get(self, key: str) -> type | None:
        scope, name = self.split_scope_key(key) if isinstance(key, str) else (None, None)
        if name in ALIASES and name not in self.module_dict:
            key = ALIASES[name] if scope is None else f'{scope}.{ALIASES[name]}'
        return super().get(key)


def _child(parent: Registry, module: str) -> Registry:
    return AliasedRegistry(parent.name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{module}'])


MODELS = _child(root.MODELS, 'models')
DATASETS = _child(root.DATASETS, 'datasets')
TRANSFORMS = _child(root.TRANSFORMS, 'datasets')
DATA_SAMPLERS = _child(root.DATA_SAMPLERS, 'datasets')
FUNCTIONS = _child(root.FUNCTIONS, 'datasets')

HOOKS = _child(root.HOOKS, 'engine')
LOG_PROCESSORS = _child(root.LOG_PROCESSORS, 'engine')
LOOPS = _child(root.LOOPS, 'engine')
MODEL_WRAPPERS = _child(root.MODEL_WRAPPERS, 'engine')
OPTIMIZERS = _child(root.OPTIMIZERS, 'engine')
OPTIM_WRAPPERS = _child(root.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
PARAM_SCHEDULERS = _child(root.PARAM_SCHEDULERS, 'engine')
RUNNERS = _child(root.RUNNERS, 'engine')
VISBACKENDS = _child(root.VISBACKENDS, 'engine')
VISUALIZERS = _child(root.VISUALIZERS, 'engine')

METRICS = _child(root.METRICS, 'evaluation')
EVALUATOR = _child(root.EVALUATOR, 'evaluation')
# Without a counterpart in MMEngine: networks that extract features and class probabilities from images.
EXTRACTORS = Registry('feature extractor', scope=SCOPE, locations=[f'{SCOPE}.evaluation'])
