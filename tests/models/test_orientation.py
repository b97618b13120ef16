import pytest
import torch

from myodistill.errors import DataError
from myodistill.models.orientation import centred_means, template


def test_a_template_of_one_window_of_each_gesture_is_refused() -> None:
    features, labels = torch.randn(3, 4), torch.arange(3)

    with pytest.raises(DataError, match="orientation: expected windows of a gesture that differ"):
        template([(features, labels)], classes=3)


def test_a_template_inverts_the_shrunk_scatter() -> None:
    features = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [5.0, 2.0], [5.0, -2.0]])

    made = template([(features, torch.tensor([0, 0, 1, 1]))], classes=2)

    assert torch.allclose(made.means, torch.tensor([[0.0, 0.0], [5.0, 0.0]]))
    assert torch.allclose(made.precision, torch.diag(torch.tensor([2.0, 0.5])))


def test_a_gesture_that_a_person_did_not_perform_has_no_say_in_how_a_ring_lies() -> None:
    features = torch.tensor([[1.0, 0.0], [3.0, 0.0], [5.0, 2.0]])

    made = centred_means(features, torch.tensor([0, 0, 2]), 4)

    expected = torch.tensor([[-1.5, -1.0], [0.0, 0.0], [1.5, 1.0], [0.0, 0.0]])
    assert torch.equal(made, expected)
