"""Adversarial losses, and the class loss of AC-GAN."""

import torch.nn.functional as F
from torch import Tensor, nn

from mmsagan.registry import MODELS


class GANLoss(nn.Module):
    """Base of the adversarial losses: logits (N, 1) -> scalars, means over the batch.

    A subclass has ``discriminator_loss(real_logits, fake_logits)``, which returns the losses on real and on fake images, whose
    sum D minimizes; and ``generator_loss(fake_logits)``, which returns the loss that G minimizes, by default -E[D(G(z))].
    """

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return -fake_logits.mean()


@MODELS.register_module()
class HingeGANLoss(GANLoss):
    """Hinge loss, equation 4 of the paper.

    L_D = -E[min(0, -1 + D(x))] - E[min(0, -1 - D(G(z)))];  L_G = -E[D(G(z))].
    """

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        return F.relu(1 - real_logits).mean(), F.relu(1 + fake_logits).mean()


@MODELS.register_module()
class WassersteinGANLoss(GANLoss):
    """Wasserstein loss (Arjovsky et al. 2017); spectral norm stands in for the Lipschitz constraint."""

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        return -real_logits.mean(), fake_logits.mean()


@MODELS.register_module()
class NonSaturatingGANLoss(GANLoss):
    """Cross-entropy with the non-saturating generator loss -log D(G(z)) (Goodfellow et al. 2014)."""

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        return F.softplus(-real_logits).mean(), F.softplus(fake_logits).mean()

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return F.softplus(-fake_logits).mean()


@MODELS.register_module()
class LeastSquaresGANLoss(GANLoss):
    """Least-squares loss with targets 1 and 0 (Mao et al. 2017), without the factor 1/2."""

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> tuple[Tensor, Tensor]:
        return (real_logits - 1).square().mean(), fake_logits.square().mean()

    def generator_loss(self, fake_logits: Tensor) -> Tensor:
        return (fake_logits - 1).square().mean()


@MODELS.register_module()
class AuxiliaryClassificationLoss(nn.Module):
    """Class loss for a discriminator with an auxiliary classifier, which is added to the adversarial loss.

    L_C = -E[log P(C = c | x)] - E[log P(C = c | G(z, c))]; D minimizes both terms, G the second. Source: Odena et al. 2017.

    Args:
        discriminator_weight, generator_weight: Weights of the class loss in D's loss and in G's.
        on_fake: Whether D also minimizes the second term.
    """

    def __init__(self, discriminator_weight: float = 1.0, generator_weight: float = 1.0, on_fake: bool = True):
        super().__init__()
        self.discriminator_weight = discriminator_weight
        self.generator_weight = generator_weight
        self.on_fake = on_fake

    def discriminator_loss(self, real: Tensor, real_label: Tensor, fake: Tensor, fake_label: Tensor) -> Tensor:
        """Returns D's part, from class logits (N, num_classes) and classes (N,) of real and fake images."""
        loss = self.class_loss(real, real_label)
        if self.on_fake:
            loss = loss + self.class_loss(fake, fake_label)
        return self.discriminator_weight * loss

    def generator_loss(self, fake: Tensor, fake_label: Tensor) -> Tensor:
        """Returns G's part, likewise."""
        return self.generator_weight * self.class_loss(fake, fake_label)

    def class_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits, label)


@MODELS.register_module()
class MultiHingeLoss(AuxiliaryClassificationLoss):
    """The same with a multi-class hinge instead of the logarithm: E[max(0, 1 - f_c + max_{k != c} f_k)].

    f are the class logits and c is the class (Crammer & Singer 2001). Kavalerov et al. 2021 use this hinge in conditional GANs;
    their D has one more class, of fake images, instead of the adversarial loss. Takes the same arguments.
    """

    def class_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        own = logits.gather(1, label[:, None])
        others = logits.scatter(1, label[:, None], float('-inf')).max(dim=1, keepdim=True).values
        return F.relu(1 - own + others).mean()
