"""What training asks of a network beyond its logits: its features, and what of it stays fixed.

Any ``nn.Module`` from windows to logits can be trained, all of it, whatever its attributes are
called. One that offers more says so by being a :class:`GestureModel`, whose methods are named as in
timm.
"""

from __future__ import annotations

from torch import Tensor, nn


class GestureModel(nn.Module):
    """A network in two steps: windows to features, features to logits.

    Subclasses define :meth:`forward_features` and :meth:`forward_head`. One with a fixed front
    (filters, for example) returns it as :attr:`fixed_front` and defines :meth:`after_front` instead
    of :meth:`forward_features`: training runs the front once over all windows and keeps its output.

    Attributes:
        num_features: Length of a feature vector; 0 where there is nothing to compare with another
            network's, and losses over features are refused.
    """

    num_features: int = 0

    @property
    def fixed_front(self) -> nn.Module | None:
        """The part that windows meet first and that is never trained; None for none."""
        return None

    def after_front(self, seen: Tensor) -> Tensor:
        """Map what the fixed front gives to features ``(window, feature)``."""
        raise NotImplementedError(f"{type(self).__name__}: after_front")

    def forward_features(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to features ``(window, feature)``."""
        front = self.fixed_front
        if front is None:
            raise NotImplementedError(f"{type(self).__name__}: forward_features")
        return self.after_front(front(windows))

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features to logits ``(window, gesture)``."""
        raise NotImplementedError(f"{type(self).__name__}: forward_head")

    def forward(self, windows: Tensor) -> Tensor:
        """Map ``(window, channel, time)`` to logits ``(window, gesture)``."""
        return self.forward_head(self.forward_features(windows))


class AfterFront(GestureModel):
    """A network without its fixed front: it reads what the front gives.

    Args:
        network: Shares its weights with this one; those of its front get no gradient.
    """

    def __init__(self, network: GestureModel) -> None:
        super().__init__()
        self.network = network
        self.num_features = network.num_features
        if network.fixed_front is not None:
            network.fixed_front.requires_grad_(False)

    def forward_features(self, windows: Tensor) -> Tensor:
        """Map what the front gave, ``(window, ...)``, to features."""
        return self.network.after_front(windows)

    def forward_head(self, features: Tensor) -> Tensor:
        """Map features to logits."""
        return self.network.forward_head(features)


def split_network(network: nn.Module) -> tuple[nn.Module | None, nn.Module]:
    """Return the fixed front of a network, if it declares one, and what is trained."""
    front = network.fixed_front if isinstance(network, GestureModel) else None
    if front is None:
        return None, network
    assert isinstance(network, GestureModel)
    return front, AfterFront(network)


def with_features(network: nn.Module) -> GestureModel | None:
    """Return a network that has features to compare; None for any other."""
    return network if isinstance(network, GestureModel) and network.num_features else None
