"""Class embeddings, which know mixed classes, too."""

from torch import Tensor, nn


class ClassEmbedding(nn.Embedding):
    """A vector of features a class: labels (N,) -> (N, C), or class weights (N, num_classes) -> (N, C).

    Integers are looked up. Floating-point labels are weights, by which the classes' vectors are summed: this is how a
    generator is asked for something between two classes. A weight of 1 for one class is that class.

    Example:
        >>> embedding = ClassEmbedding(3, 8)
        >>> halfway = embedding(torch.tensor([[0.5, 0.5, 0.0]]))
        >>> torch.allclose(halfway[0], embedding(torch.tensor([0, 1])).mean(0))
        True
    """

    def forward(self, label: Tensor) -> Tensor:
        if label.is_floating_point():
            return label.to(self.weight.dtype) @ self.weight
        return super().forward(label)
