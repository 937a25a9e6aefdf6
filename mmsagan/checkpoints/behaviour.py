"""What networks do that their tensors do not show, and where a checkpoint's notes say it."""

import ast
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from mmsagan.models import ProjDiscriminator
from mmsagan.models.initializers import INIT_SCHEMES


@dataclass(frozen=True)
class Behaviour:
    """What networks do that their tensors do not show.

    Args:
        inplace: Whether the activations worked in place, see :class:`~mmsagan.models.layers.residual.DiscriminatorBlock`.
        norm_eps: Epsilon of the batch norms.
        sn_eps: Epsilon of the spectral norms; matters in training only.
        init: Name of the init scheme, which also says whether 1 is added to the conditional norms' scales.
    """

    inplace: bool = False
    norm_eps: float = 1e-4
    sn_eps: float = 1e-12
    init: str = 'studio'

    @classmethod
    def from_meta(cls, meta: Mapping) -> 'Behaviour | None':
        """What a checkpoint's ``meta`` says: of a converted one its note, of one that was trained here its config.

        None if it says nothing, or nothing that makes sense, or if the config names other components than the usual ones.
        """
        stated = meta.get('behaviour')
        if not isinstance(stated, Mapping):
            stated = _behaviour_of_config(stated_model(meta))
        defaults = asdict(cls())
        if not isinstance(stated, Mapping) or set(stated) != set(defaults):
            return None
        fits = all(type(stated[key]) is type(default) for key, default in defaults.items()) and stated['init'] in INIT_SCHEMES
        return cls(**stated) if fits else None


def downsample_table_of(meta: Mapping) -> Callable[[int], list[bool] | None]:
    """Which of D's blocks halve the size: as a checkpoint's ``meta`` says, or else as usual at that size."""
    options = meta.get('cfg_options')
    stated = options.get('model.discriminator.downsample_cfg') if isinstance(options, Mapping) else None
    if stated is None:
        stated = _part(stated_model(meta), 'discriminator').get('downsample_cfg')
    if isinstance(stated, list):
        return lambda scale: [bool(halves) for halves in stated]
    return ProjDiscriminator.default_downsample.get


def model_text(config) -> str | None:
    """The lines of a config's text that state the model, if there are any. The text is read, not run."""
    assignments = _assignments(config)
    if 'model' not in assignments:
        return None
    wanted = [assignments[name] for name in ('default_scope', 'model') if name in assignments]
    return '\n'.join(ast.get_source_segment(config, node) or '' for node in wanted) + '\n'


def stated_model(meta: Mapping) -> dict:
    """The model in the config that a checkpoint's ``meta`` holds as text; empty if there is none of plain values."""
    assignment = _assignments(meta.get('cfg')).get('model')
    try:
        model = _value(assignment.value) if assignment is not None else {}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return {}
    return model if isinstance(model, dict) else {}


def _assignments(config) -> dict[str, ast.Assign]:
    try:
        body = ast.parse(config).body
    except (SyntaxError, TypeError, ValueError, MemoryError, RecursionError):
        return {}
    assigned = [node for node in body if isinstance(node, ast.Assign)]
    return {target.id: node for node in assigned for target in node.targets if isinstance(target, ast.Name)}


def _value(node: ast.expr):
    """The value of an expression of literals and ``dict(key=value)``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        # A key that is None, of `**`, is refused with a ValueError.
        return {ast.literal_eval(key): _value(value) for key, value in zip(node.keys, node.values)}  # type: ignore[arg-type]
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    return ast.literal_eval(node)


def _part(cfg: Mapping, key: str) -> Mapping:
    part = cfg.get(key)
    return part if isinstance(part, Mapping) else {}


def _behaviour_of_config(model: Mapping) -> dict | None:
    g, d = _part(model, 'generator'), _part(model, 'discriminator')
    usual = (
        g.get('type') in ('SAGANGenerator', 'SNGANGenerator')
        and d.get('type') in ('ProjDiscriminator', 'SAGANDiscriminator')
        and not any(key in network for network in (g, d) for key in ('blocks_cfg', 'from_rgb_cfg'))
        and all(_part(network, 'act_cfg').get('type', 'ReLU') == 'ReLU' for network in (g, d))
        and all(_part(network, 'attention_cfg').get('type', 'SelfAttentionBlock') == 'SelfAttentionBlock' for network in (g, d))
        and all(_part(network, 'attention_cfg').get('pool', True) is True for network in (g, d))
    )
    if not usual:
        return None
    return dict(
        inplace=_part(d, 'act_cfg').get('inplace', False),
        norm_eps=g.get('norm_eps', 1e-4),
        sn_eps=g.get('sn_eps', 1e-12),
        init=_part(g, 'init_cfg').get('type', 'studio'),
    )
