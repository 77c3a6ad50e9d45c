"""What stands for a transform of an older checkpoint that is known by its text alone."""


class Forgotten:
    """Cannot be made.

    Args:
        text: the transform's repr.

    Raises:
        ValueError: always.
    """

    def __init__(self, text: str) -> None:
        raise ValueError(
            f"the transform {text} was recorded by an older version, which kept its text alone, and is none that this "
            "version knows: list it again in the experiment's config.py and train with that."
        )
