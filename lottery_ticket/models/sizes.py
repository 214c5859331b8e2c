"""The sizes of the package's own networks: how wide they are, and which pictures they take."""


def scaled(count: int, width: float) -> int:
    """A published number of channels or units times a width, rounded (halves to even); at least one."""
    return max(1, round(count * width))


def picture(input_shape: tuple[int, ...], smallest: int = 1) -> tuple[int, int, int]:
    """Channels, height and width; ValueError where images are no pictures, or a side is less than `smallest` pixels."""
    if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
        raise ValueError(f"it takes pictures of at least {smallest}×{smallest} pixels")
    channels, height, width = input_shape
    return channels, height, width
