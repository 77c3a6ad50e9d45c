"""Entries chosen by a mask, as a CPU lists them and in shapes that depend on no value: by hand."""

import torch

from public.geometry.fixed_shapes import Chosen, fixed_shapes, shapes_are_fixed

CPU = torch.device("cpu")
MASK = torch.tensor([[True, False, True], [False, False, True]])
VALUES = torch.arange(12.0).view(2, 3, 2)


def test_a_cpu_has_the_choice() -> None:
    assert not shapes_are_fixed(CPU)
    assert shapes_are_fixed(torch.device("cuda"))
    with fixed_shapes():
        assert shapes_are_fixed(CPU)
    assert not shapes_are_fixed(CPU)


def test_a_cpu_lists_the_chosen_alone() -> None:
    chosen = Chosen(MASK)
    assert chosen.of(VALUES).tolist() == [[0, 1], [4, 5], [10, 11]]
    assert chosen.of_columns(torch.tensor([7, 8, 9])).tolist() == [7, 9, 9]
    assert chosen.of_images(torch.tensor([5, 6])).tolist() == [5, 5, 6]
    assert chosen.only(torch.ones(3)).tolist() == [1, 1, 1]
    assert chosen.back(torch.tensor([1.0, 2, 3])).tolist() == [[1, 0, 2], [0, 0, 3]]


def test_fixed_shapes_list_all() -> None:
    with fixed_shapes():
        chosen = Chosen(MASK)
    assert chosen.of(VALUES).tolist() == VALUES.flatten(0, 1).tolist()
    assert chosen.only(chosen.of(VALUES)).tolist() == [[0, 1], [0, 0], [4, 5], [0, 0], [0, 0], [10, 11]]
    assert chosen.of_columns(torch.tensor([7, 8, 9])).tolist() == [7, 8, 9, 7, 8, 9]
    assert chosen.of_images(torch.tensor([5, 6])).tolist() == [5, 5, 5, 6, 6, 6]
    assert chosen.only(torch.ones(6)).tolist() == [1, 0, 1, 0, 0, 1]
    assert chosen.back(torch.arange(6.0)).tolist() == [[0, 0, 2], [0, 0, 5]]


def test_what_is_left_out_leaves_no_trace_in_gradients() -> None:
    """Not even where it is no number, if it is taken out before it meets what has a gradient."""
    values = torch.tensor([[2.0, 0, 4], [0, 0, 8]], requires_grad=True)
    targets = torch.tensor([[1.0, torch.nan, 4], [torch.nan, torch.inf, 10]])
    with fixed_shapes():
        chosen = Chosen(MASK)
    errors = (chosen.of(values) - chosen.only(chosen.of(targets))).square()
    chosen.only(errors).sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [[2, 0, 0], [0, 0, -4]]
