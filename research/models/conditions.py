"""What a network of the family diffusion is given beside the noisy image."""

from typing import Any, NamedTuple


class Conditions(NamedTuple):
    """How noisy an image is, and what is known of it; None is what a network is not given.

    Attributes:
        gamma_B: -log SNR of the noisy image, float [B].
        label_B: its class, int [B]; `model.num_classes` means "no class".
        until_B: -log SNR at which a map along the flow ends, float [B].
        text_BxS: tokens of a text, int [B, S]; 0 is padding.
        image_BxHxWxC: an image that the noisy one is to follow, float in its range.
    """

    gamma_B: Any
    label_B: Any = None
    until_B: Any = None
    text_BxS: Any = None
    image_BxHxWxC: Any = None
