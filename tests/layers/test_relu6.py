import pytest
import torch
from torch import Tensor, nn

from public.layers.relu6 import ReLU6

VALUES = [-torch.inf, -1.0, -0.0, 0.0, 1e-30, 3.0, 5.9999995, 6.0, 6.0000005, torch.inf, torch.nan]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_numbers_and_gradients_are_those_of_torch(dtype: torch.dtype) -> None:
    found = []
    for module in (ReLU6(), nn.ReLU6(inplace=True)):
        x = torch.tensor(VALUES, dtype=dtype, requires_grad=True)
        y = module(x * 1)
        y.backward(torch.arange(1, len(VALUES) + 1, dtype=dtype))
        found.append(torch.stack([y.detach(), x.grad]))  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(*found, rtol=0, atol=0, equal_nan=True)


def test_the_result_alone_is_kept() -> None:
    """One map, in the place of the input; torch's own keeps a copy of the input as well."""
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.data_ptr())
        return tensor

    x = torch.randn(4, 8, requires_grad=True) + 0
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = ReLU6()(x)
    assert y.data_ptr() == x.data_ptr()
    assert kept == [x.data_ptr()]


def test_without_gradients_it_works_in_place() -> None:
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            x = torch.tensor([-1.0, 3.0, 7.0])
            assert ReLU6()(x) is x or torch.equal(ReLU6()(x), x)
            assert x.tolist() == [0, 3, 6]


def test_a_leaf_that_learns_is_refused_as_torch_does() -> None:
    with pytest.raises(RuntimeError, match="leaf Variable"):
        ReLU6()(torch.ones(2, requires_grad=True))


def test_graphs_and_transforms_have_torchs_own() -> None:
    x = torch.tensor([-1.0, 3.0, 7.0])
    exported = torch.export.export(nn.Sequential(nn.Identity(), ReLU6()), (x.clone(),)).module()
    assert exported(x.clone()).tolist() == [0, 3, 6]
    slope = torch.func.grad(lambda x: ReLU6()(x * 1).sum())(x)
    assert slope.tolist() == [0, 1, 0]
