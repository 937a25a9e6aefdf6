"""Losses that are added to the adversarial one, for few images and stable training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from mmengine import dist
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmsagan.errors import ConfigError
from mmsagan.models.layers.blocks import check_counts
from mmsagan.registry import MODELS

if TYPE_CHECKING:
    from mmsagan.models.gan import ConditionalGAN


@dataclass
class Update:
    """What an update has computed, here of G: images as D saw them, their labels (None without classes) and logits (N, 1).

    With gradient accumulation it is ``part`` of ``num_parts``, counted from 0, and N is the number of images in it.
    """

    gan: 'ConditionalGAN'
    iteration: int
    part: int
    num_parts: int
    fake: Tensor
    fake_label: Tensor | None
    fake_logits: Tensor


@dataclass
class DiscriminatorUpdate(Update):
    """The same of an update of D, which sees as many real images, too. Gradients do not reach the images."""

    real: Tensor
    real_label: Tensor
    real_logits: Tensor


class Regularizer(BaseModule):
    """Base of the regularizers: a loss in the updates of D, of G, or of both.

    Logged as ``loss_disc_<name>`` and ``loss_gen_<name>``, with its key in ``model.regularizers``. Its buffers are saved.

    Args:
        weight: Factor of the loss.
        interval: The loss is computed in every ``interval``-th update of D, or row of G's, with ``interval`` times the weight.
    """

    def __init__(self, weight: float = 1.0, interval: int = 1):
        super().__init__()
        check_counts(interval=interval)
        self.weight = weight
        self.interval = interval

    def discriminator_loss(self, update: DiscriminatorUpdate) -> Tensor | None:
        """Returns the loss of an update of D, a scalar; None if it has none."""
        return None

    def generator_loss(self, update: Update) -> Tensor | None:
        """Returns the loss of an update of G, a scalar; None if it has none."""
        return None


def image_gradient(gan: 'ConditionalGAN', images: Tensor, label: Tensor | None) -> Tensor:
    """Computes the gradient of D's logits with respect to images (N, C, S, S), which can be differentiated again.

    For that, D runs on the images anew: not compiled, without fused attention, which have none, and without autocast.
    """
    uncompiled, unfused = torch.compiler.set_stance('force_eager'), sdpa_kernel(SDPBackend.MATH)
    with uncompiled, unfused, torch.autocast(images.device.type, enabled=False):
        images = images.detach().to(torch.promote_types(images.dtype, torch.float32)).requires_grad_()
        logits = gan.discriminate(images, label)
        return torch.autograd.grad(logits.sum(), images, create_graph=True)[0]


@MODELS.register_module()
class R1(Regularizer):
    """Gradient penalty on real images: ``gamma / 2 * E[||grad D(x)||^2]``.

    Source: Mescheder et al. 2018, equation 9; computed lazily as in Karras et al. 2020 (StyleGAN2).
    """

    def __init__(self, gamma: float = 10.0, interval: int = 16):
        super().__init__(gamma / 2, interval)

    def discriminator_loss(self, update: DiscriminatorUpdate) -> Tensor:
        return image_gradient(update.gan, update.real, update.real_label).square().sum() / len(update.real)


@MODELS.register_module()
class GradientPenalty(Regularizer):
    """Gradient penalty between real and fake images, for ``WassersteinGANLoss``: ``E[(||grad D(x)|| - 1)^2]``.

    x = e real + (1 - e) fake, with e uniform in [0, 1], one for each pair; it has the real image's class. Source: Gulrajani et
    al. 2017, equation 3. The paper's D has neither spectral norm nor batch norm. Takes the arguments of :class:`Regularizer`.
    """

    def __init__(self, weight: float = 10.0, interval: int = 1):
        super().__init__(weight, interval)

    def discriminator_loss(self, update: DiscriminatorUpdate) -> Tensor:
        share = torch.rand(len(update.real), 1, 1, 1, device=update.real.device)
        images = share * update.real + (1 - share) * update.fake
        norms = image_gradient(update.gan, images, update.real_label).flatten(1).norm(dim=1)
        return (norms - 1).square().mean()


@MODELS.register_module()
class LeCam(Regularizer):
    """Keeps D's logits near to their past means: E[(D(x) - a_fake)^2] + E[(D(G(z)) - a_real)^2].

    The anchors a are exponential moving averages of D's mean logits, over all processes, up to the update before. Until
    ``start_iter``, there is no loss, and the anchors are the means of the last update. Source: Tseng et al. 2021.
    """

    anchors: Tensor

    def __init__(self, weight: float = 0.3, decay: float = 0.99, start_iter: int = 1000, interval: int = 1):
        super().__init__(weight, interval)
        if not 0 <= decay < 1:
            raise ConfigError(f'LeCam: decay must be at least 0 and below 1, got {decay}')
        self.decay = decay
        self.start_iter = start_iter
        self.register_buffer('anchors', torch.zeros(2))  # of real and of fake images

    def discriminator_loss(self, update: DiscriminatorUpdate) -> Tensor | None:
        has_started = update.iteration > self.start_iter
        decay = self.decay if has_started else 0.0
        if update.part == 0:
            self.used_anchors = self.anchors.clone()
            self.anchors.mul_(decay)
        means = torch.stack([update.real_logits.mean(), update.fake_logits.mean()]).detach()
        dist.all_reduce(means, 'mean')
        self.anchors.add_(means, alpha=(1 - decay) / update.num_parts)
        if not has_started:
            return None
        real_anchor, fake_anchor = self.used_anchors
        return (update.real_logits - fake_anchor).square().mean() + (update.fake_logits - real_anchor).square().mean()


@MODELS.register_module()
class ConsistencyRegularization(Regularizer):
    """D's logits should not change if an image is augmented: E[(D(x) - D(T(x)))^2], and the same for fake images.

    Source: Zhang et al. 2020 (CR, for real images); Zhao et al. 2020 (bCR, for both).

    Args:
        augment: Config of the change T, as in ``model.augment``; not ADA, whose ``p`` would stay 0.
        fake_weight: Weight of the term for fake images relative to that for real ones: 0 for CR, 1 for bCR with equal weights.
    """

    def __init__(
        self,
        augment: dict = dict(type='DiffAugment', policy='translation'),
        weight: float = 10.0,
        fake_weight: float = 0.0,
        interval: int = 1,
    ):
        super().__init__(weight, interval)
        self.augment = MODELS.build(augment)
        self.fake_weight = fake_weight

    def discriminator_loss(self, update: DiscriminatorUpdate) -> Tensor:
        changed_logits = update.gan.discriminate(self.augment(update.real), update.real_label)
        loss = (update.real_logits - changed_logits).square().mean()
        if self.fake_weight:
            changed_logits = update.gan.discriminate(self.augment(update.fake), update.fake_label)
            loss = loss + self.fake_weight * (update.fake_logits - changed_logits).square().mean()
        return loss


@MODELS.register_module()
class TopK(Regularizer):
    """Trains G on the k fake images that D finds most real: their loss, minus that of all, which the total has already.

    k = max(decay^(iteration / decay_iters), fraction) N, with a whole exponent and N images in a process, or in a part of an
    accumulated batch. Source: Sinha et al. 2020, where ``decay_iters`` is an epoch.
    """

    def __init__(self, fraction: float = 0.5, decay: float = 0.99, decay_iters: int = 1000):
        super().__init__()
        check_counts(decay_iters=decay_iters)
        if not 0 < fraction <= 1 or not 0 < decay <= 1:
            raise ConfigError(f'TopK: fraction and decay must be above 0 and at most 1, got {fraction} and {decay}')
        self.fraction = fraction
        self.decay = decay
        self.decay_iters = decay_iters

    def generator_loss(self, update: Update) -> Tensor:
        share = max(self.decay ** (update.iteration // self.decay_iters), self.fraction)
        logits, loss = update.fake_logits, update.gan.gan_loss.generator_loss
        return loss(logits.topk(max(1, int(share * len(logits))), dim=0).values) - loss(logits)


@MODELS.register_module()
class OrthogonalRegularization(Regularizer):
    """Makes filters orthogonal without a constraint on their norms: the sum over weights W of ``||W W^T * (1 - I)||^2``.

    W, of the ``network`` ``'generator'`` or ``'discriminator'``, has a row for each output channel; ``*`` is elementwise.
    Embeddings have no filters. With spectral norm, W is ``weight_orig``. Source: Brock et al. 2019 (BigGAN), section 3.1.
    """

    def __init__(self, weight: float = 1e-4, network: str = 'generator', interval: int = 1):
        super().__init__(weight, interval)
        if network not in ('generator', 'discriminator'):
            raise ConfigError(f"OrthogonalRegularization: network must be 'generator' or 'discriminator', got {network!r}")
        self.network = network

    def discriminator_loss(self, update: DiscriminatorUpdate) -> Tensor | None:
        return self._loss(update.gan.discriminator) if self.network == 'discriminator' else None

    def generator_loss(self, update: Update) -> Tensor | None:
        return self._loss(update.gan.generator) if self.network == 'generator' else None

    def _loss(self, network: nn.Module) -> Tensor:
        layers = [module for module in network.modules() if not isinstance(module, nn.Embedding)]
        weights = [weight.flatten(1) for layer in layers for weight in layer.parameters(recurse=False) if weight.dim() > 1]
        with torch.autocast(weights[0].device.type, enabled=False):
            # W W^T and W^T W have the same Frobenius norm; the diagonal of W W^T has the squared norms of the rows.
            grams = [weight @ weight.T if len(weight) <= weight.shape[1] else weight.T @ weight for weight in weights]
            diagonals = [weight.square().sum(1) for weight in weights]
            return torch.stack([g.square().sum() - d.square().sum() for g, d in zip(grams, diagonals)]).sum()
