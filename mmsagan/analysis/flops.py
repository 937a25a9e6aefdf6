"""How much a GAN computes: FLOPs by layer, of both updates of a training, and by kind of operation.

Counted are the multiply-adds of convolutions, linear layers, attention and spectral norms (power iteration and sigma), 2 FLOPs
each, and at the image's border those with padding, too. Not counted is what works element by element and costs memory traffic
rather than arithmetic: activations, norms, pooling, softmax, the optimizer, the moving average.

Every number exists in two forms. *Plain* is the function itself, resampling and convolving one after the other, as the
reference codes compute it. It is the same for every implementation of the function, so models and implementations are compared
by it. *Fast* is the work that the fast form does (:mod:`mmsagan.models.layers.blocks`), in a resampling convolution a quarter
of the plain one's. What is held against a machine's peak must be the work that is really done: counted in plain FLOPs, a fast
training would seem to run much faster than it does, and could pass the peak.

The counts come from running the networks on fake tensors (shapes without content), so neither size nor device matters.
``mmengine.analysis`` traces a forward pass only, and takes a multiply-add for 1.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mmsagan.engine.config import config_errors, find_component
from mmsagan.errors import ConfigError
from mmsagan.models.layers import set_fast
from mmsagan.registry import MODELS

aten = torch.ops.aten
NETWORKS = ('generator', 'discriminator')


@dataclass(frozen=True)
class Flops:
    """FLOPs of something that was run, in numbers of floating-point operations.

    Args:
        by_kind: Kind of operation, as ``'convolutions 3x3'``, ``'attention'``, ``'linear'``, ``'spectral norm'`` -> FLOPs.
        by_module: Name of a module, as ``'SAGANGenerator.conv_blocks.0'`` -> FLOPs of its forward pass.
    """

    by_kind: Counter[str]
    by_module: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.by_kind.values())


@dataclass(frozen=True)
class LayerFlops:
    """A network's layer: a row of the table.

    Args:
        name: Where it is in the network; empty for the network itself.
        depth: How many layers it is in, the network being of depth 0.
        type: Its class.
        parameters: Its learned numbers.
        plain: FLOPs of its forward pass, as the function is defined.
        fast: The same in the fast form.
        output_shape: Of its output, with the batch.
    """

    name: str
    depth: int
    type: str
    parameters: int
    plain: int
    fast: int
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class TrainingFlops:
    """FLOPs of one update of D and of one update of G, forward and backward."""

    discriminator: Flops
    generator: Flops

    @property
    def step(self) -> Flops:
        """One update of each."""
        return Flops(self.discriminator.by_kind + self.generator.by_kind)

    def iteration(self, discriminator_steps: int = 1, generator_steps: int = 1) -> float:
        """FLOPs of an iteration of a training on average: one update of D, and G's when they are due."""
        return self.discriminator.total + self.generator.total * generator_steps / discriminator_steps


# ------------------------------------------------------------------------------------------------------------- the counter


def count_flops(action: Callable[[], object]) -> Flops:
    """Counts what an action would compute, without computing it.

    The action is run on fake tensors, those it makes and those it finds. It must not look at their values. Modules it trains
    keep fake gradients afterwards, so count with a model that is of no further use.

    Args:
        action: What is counted.

    Example:
        >>> layer = nn.Linear(8, 4)
        >>> count_flops(lambda: layer(torch.empty(3, 8))).total
        192
    """
    with FakeTensorMode(allow_non_fake_inputs=True), _KindCounter() as counter:
        action()
    by_module = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    return Flops(counter.by_kind, by_module)


class _KindCounter(FlopCounterMode):
    """PyTorch's counter, which here also counts by kind, and knows the operations of spectral norms and of CPUs' attention."""

    def __init__(self):
        super().__init__(display=False)
        self.by_kind: Counter[str] = Counter()
        formulas = {
            **self.flop_registry,
            aten.mv: _product_flops,
            aten.dot: _product_flops,
            # The kernels on CPUs, which PyTorch has no formulas for.
            aten._scaled_dot_product_flash_attention_for_cpu: self.flop_registry[aten._scaled_dot_product_flash_attention],
            aten._scaled_dot_product_flash_attention_for_cpu_backward: self.flop_registry[
                aten._scaled_dot_product_flash_attention_backward
            ],
        }
        self.flop_registry = {operation: self._by_kind(operation, formula) for operation, formula in formulas.items()}

    def _by_kind(self, operation, formula: Callable[..., int]) -> Callable[..., int]:
        def count(*args, **kwargs) -> int:
            flops = formula(*args, **kwargs)
            self.by_kind[_kind(operation, args)] += flops
            return flops

        return count


def _product_flops(matrix: Tensor, vector: Tensor, **kwargs) -> int:
    """Of a matrix or a vector with a vector."""
    return 2 * matrix.numel()


# The weight's place among the arguments.
_CONVOLUTIONS = {aten.convolution: 1, aten._convolution: 1, aten.convolution_backward: 2}


def _kind(operation, args: tuple) -> str:
    """A name for an operation of these networks."""
    if operation in _CONVOLUTIONS:
        return 'convolutions ' + 'x'.join(map(str, args[_CONVOLUTIONS[operation]].shape[2:]))
    if operation in (aten.mv, aten.dot):
        return 'spectral norm'
    if operation in (aten.mm, aten.addmm):
        return 'linear'
    if operation in (aten.bmm, aten.baddbmm) or 'attention' in str(operation):
        return 'attention'
    return 'other'


# --------------------------------------------------------------------------------------------------------- what is counted


def layer_flops(model: Mapping, batch_size: int = 1) -> dict[str, list[LayerFlops]]:
    """The layers of both networks in a forward pass in training mode.

    Layers that have neither parameters nor FLOPs are left out.

    Args:
        model: Config of a GAN.
        batch_size: Images in the pass. Spectral norms do the same for one image as for many.

    Returns:
        By ``'generator'`` and ``'discriminator'`` the rows, in the order of the network, the network itself first.

    Raises:
        ConfigError: The config describes no GAN that can be built.

    Example:
        >>> from mmsagan.engine.config import load_config
        >>> model = load_config('configs/sagan/sagan_32_woReLUinplace_cifar10_b64x1.py').model
        >>> layer_flops(model)['generator'][0].parameters
        4386308
    """
    plain, fast = (build_counted(model, form) for form in (False, True))
    return {network: _rows(network, plain, fast, batch_size) for network in NETWORKS}


def training_flops(model: Mapping, batch_size: int, fast: bool | None = None) -> TrainingFlops:
    """Both updates of a training on batches of a size, each done in one part.

    Args:
        model: Config of a GAN.
        batch_size: Real images in an update of D, and fake ones in either update.
        fast: Whether to count the fast form or the plain one; None: what the config says, which is what is run.

    Raises:
        ConfigError: The config describes no GAN that can be built.
    """
    gan = build_counted(model, fast)
    # Which optimizer it is does not count.
    discriminator, generator = (
        OptimWrapper(torch.optim.SGD(network.parameters(), lr=0.0)) for network in (gan.discriminator, gan.generator)
    )

    shape = image_shape(gan)

    def update_discriminator() -> None:
        images, labels = torch.empty(batch_size, *shape), torch.zeros(batch_size, dtype=torch.long)
        gan.train_discriminator(images, labels, discriminator)

    return TrainingFlops(
        discriminator=count_flops(update_discriminator),
        generator=count_flops(lambda: gan.train_generator(batch_size, generator)),
    )


def build_counted(model: Mapping, fast: bool | None = None) -> nn.Module:
    """The GAN of a config in training mode, on the CPU and without a moving average, computing the fast way or the plain one.

    Args:
        model: Config of a GAN.
        fast: None leaves it to the config. A network that knows no such switch stays as it is.

    Raises:
        ConfigError: It cannot be built.
    """
    options = {key: value for key, value in model.items() if key not in ('ema_config', 'compile_cfg')}
    check_networks(model)
    with config_errors():
        gan = MODELS.build(options).train()
    return gan if fast is None else set_fast(gan, fast)


def check_networks(model: Mapping) -> None:
    """Makes sure that a config's model names both networks of a GAN.

    Raises:
        ConfigError: It does not, or it names one that there is not.
    """
    for name in NETWORKS:
        if not isinstance(model.get(name), Mapping):
            raise ConfigError(f'a GAN is measured, and model has no {name}=dict(...)')
        find_component(model[name].get('type'), f'model.{name}.type')


def image_shape(gan: nn.Module) -> torch.Size:
    """(channels, height, width) of the images that the generator makes, found without making one."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        return gan.generator(gan.draw_noise(2), label=gan.draw_label(2)).shape[1:]


def _rows(network: str, plain: nn.Module, fast: nn.Module, batch_size: int) -> list[LayerFlops]:
    """The rows of one of the networks, which the GAN ``fast`` computes in the fast form."""
    plain_flops, shapes = _forward(network, plain, batch_size)
    fast_flops, _ = _forward(network, fast, batch_size)
    rows = [
        LayerFlops(
            name=name,
            depth=_depth(name, shapes),
            type=type(module).__name__,
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            plain=plain_flops[name],
            fast=fast_flops[name],
            output_shape=shapes[name],
        )
        for name, module in getattr(plain, network).named_modules()
        if name in shapes  # lists of layers are not called
    ]
    return [row for row in rows if row.parameters or row.plain]


def _forward(network: str, gan: nn.Module, batch_size: int) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    """FLOPs and output shapes of a network's forward pass, both by the names of the modules that are called."""
    counted = getattr(gan, network)
    shape = image_shape(gan) if network == 'discriminator' else None
    shapes: dict[str, tuple[int, ...]] = {}

    def forward() -> None:
        inputs = gan.draw_noise(batch_size) if network == 'generator' else torch.empty(batch_size, *shape)
        with torch.no_grad():
            counted(inputs, label=gan.draw_label(batch_size))

    def shape_noter(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs, output) -> None:
            shapes[name] = tuple((output[0] if isinstance(output, tuple) else output).shape)

        return note

    for name, module in counted.named_modules():
        module.register_forward_hook(shape_noter(name))
    found = count_flops(forward).by_module
    # PyTorch's counter calls the outermost module by its class.
    root = type(counted).__name__
    return {name: found.get(f'{root}.{name}' if name else root, 0) for name in shapes}, shapes


def _depth(name: str, called: Mapping[str, object]) -> int:
    """How many of the modules that are called it lies in."""
    parents = name.split('.')[:-1]
    return (name != '') + sum('.'.join(parents[:length]) in called for length in range(1, len(parents) + 1))
