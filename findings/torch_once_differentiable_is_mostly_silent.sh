#!/usr/bin/env bash
# torch 2.14.1: once_differentiable, whose purpose is to refuse a second derivative of an autograd.Function that has none,
# refuses it in one case of four. Where the gradient that comes in needs no gradient itself (the loss is a sum of what the
# function gave) nothing raises; where it does, .backward() raises, and torch.autograd.grad, which runs only what leads to
# the tensors it was told, does not. The part of the second derivative is then left out without a word, so that a
# gradient penalty over such a layer trains something else.
# Of f = (w * x)^2, w = 2, x = 3: f' by x is 24, and the derivative by w of f + f' is 2 w x^2 + 4 w x = 60. Of f^2 + (f^2)'
# it is 4 w^3 x^4 + 16 w^3 x^3 = 6048.
# Output seen on 2026-11-30, Python 3.11, Linux x86_64, CPU:
#   torch.square          f     grad 60.0      backward 60.0
#   torch.square          f^2   grad 6048.0    backward 6048.0
#   once_differentiable   f     grad 48.0      backward 48.0
#   once_differentiable   f^2   grad 3456.0    backward RuntimeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.autograd.function import once_differentiable


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


def derivative(square, loss_of, ask):
    """By w, of a loss with its own derivative by x added."""
    w, x = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    loss = loss_of(square(w * x))
    (slope,) = torch.autograd.grad(loss, x, create_graph=True)
    try:
        if ask == "grad":
            return torch.autograd.grad(loss + slope, w)[0].item()
        (loss + slope).backward()
        return w.grad.item()
    except RuntimeError as error:
        return "RuntimeError" if "once_differentiable" in str(error) else str(error)


SQUARES = {"torch.square": torch.square, "once_differentiable": Square.apply}
LOSSES = {"f": lambda y: y, "f^2": torch.square}
found = []
for name, square in SQUARES.items():
    for loss, loss_of in LOSSES.items():
        found.append([derivative(square, loss_of, ask) for ask in ("grad", "backward")])
        print(f"{name:<21} {loss:<5} grad {found[-1][0]!s:<9} backward {found[-1][1]}")
assert found == [[60, 60], [6048, 6048], [48, 48], [3456, "RuntimeError"]], "the behaviour changed"
PYTHON
