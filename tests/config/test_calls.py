"""Transforms as a config lists them."""

import pytest
import torch
from torchvision.transforms import v2

from public.config.calls import SIZE, Call, Scaled, build_all


def test_a_call_is_data() -> None:
    """Equal by class and arguments, in whatever order; usable as a key; shown as it is written."""
    call = Call(v2.ColorJitter, brightness=0.4, hue=0.1)
    assert call == Call(v2.ColorJitter, hue=0.1, brightness=0.4)
    assert call != Call(v2.ColorJitter, brightness=0.4)
    assert len({call, Call(v2.ColorJitter, hue=0.1, brightness=0.4)}) == 1
    assert repr(call) == "Call(ColorJitter, brightness=0.4, hue=0.1)"
    with pytest.raises(AttributeError):
        call.type = v2.Resize  # pyright: ignore[reportAttributeAccessIssue]


def test_a_default_may_be_stated_or_not() -> None:
    """The call is the same, also where the default is None, a tuple that is given as a list, or another's True."""
    call = Call(v2.RandomErasing, p=0.25)
    assert call == Call(v2.RandomErasing, p=0.25, scale=[0.02, 0.33], inplace=False)
    assert (
        repr(Call(v2.RandomRotation, degrees=15, center=None, expand=0)) == "Call(RandomRotation, degrees=15, expand=0)"
    )
    assert Call(v2.Normalize, mean=torch.zeros(3), std=torch.ones(3), inplace=False).keywords[0][0] == "mean"


def test_lengths_follow_the_size_of_the_input() -> None:
    """256 of 224 is 292 of 256 (by hand: 256 x 256 / 224 = 292.57), and the size itself is itself."""
    transforms = build_all((Call(v2.Resize, size=Scaled(256, of=224)), Call(v2.CenterCrop, size=(SIZE, SIZE))), 256)
    resize, crop = transforms
    assert (list(resize.size), tuple(crop.size)) == ([292], (256, 256))
    assert [Scaled(256, of=224).at(size) for size in (224, 288, 32)] == [256, 329, 36]
    assert Scaled(1, of=1000).at(10) == 1  # never nothing


def test_calls_within_calls_are_built_too() -> None:
    """A list becomes a tuple, which nobody changes afterwards."""
    inner = [Call(v2.CenterCrop, size=SIZE)]
    call = Call(v2.RandomApply, transforms=inner, p=1.0)
    inner.clear()
    (built,) = call.build(8).transforms
    assert isinstance(built, v2.CenterCrop)
    assert built.size == (8, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Call(v2.ColorJitter, brightnes=0.4), r"Call\(ColorJitter, ...\): got an unexpected keyword argument"),
        (lambda: Call(v2.Resize), r"Call\(Resize, ...\): missing a required argument: 'size'"),
        (lambda: Call(v2.Resize(3)), "a transform's class is expected"),  # pyright: ignore[reportArgumentType]
        (lambda: Call(len), "a transform's class is expected"),  # pyright: ignore[reportArgumentType]
        (lambda: Scaled(0, of=3), "both must be 1 or more"),
    ],
)
def test_a_call_is_refused(make: object, message: str) -> None:
    """Where it is written, not when the data is opened."""
    with pytest.raises(ValueError, match=message):
        make()  # pyright: ignore[reportCallIssue]
