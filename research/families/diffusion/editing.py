"""Images made from images: what is known of one is kept, and noises are mixed.

What is known of an image, A x_0 = a, is kept by putting it into every x_0 that the network sees,
A^+ a + (1 - A^+ A) x_0 (Wang 2023, DDNM, eq. 12). Every sampler then carries the known part as it
would carry a point mass, so that it has the right noise at each level: inpainting and outpainting,
where A picks pixels, and super-resolution, where it takes means of squares.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from research.families.diffusion.image_conditions import larger, smaller
from research.families.diffusion.samplers import Denoise, Denoised

Keep = Callable[[Array], Array]  # x_0 -> the x_0 with the same unknown part that has the known one


def keep_pixels(image: Array, mask: Array) -> Keep:
    """Pixels of `image` [B, H, W, C] where `mask` [B, H, W, 1] is 0; those at 1 are drawn."""
    return lambda x0: jnp.where(mask > 0, x0, image)


def keep_means(small: Array, factor: int) -> Keep:
    """Means of squares of `factor` x `factor` pixels, which are `small` [B, h, w, C]."""
    return lambda x0: x0 + larger(small - smaller(x0, factor), factor)


def kept(denoise: Denoise, keep: Keep) -> Denoise:
    """`denoise` of an image of which something is known."""

    def known(y: Array, gamma_B: Array, guess: Array) -> Denoised:
        seen = denoise(y, gamma_B, guess)
        return seen._replace(x0=keep(seen.x0))

    return known


def combined(noise: Array, minus: Array, plus: Array) -> Array:
    """noise - minus + plus, each [B, ...], with the norm that `noise` has.

    What differs between two images, found in their noises, is given to a third (Song 2021, DDIM,
    section 5.3, has the noises; Radford 2016, section 6.3.2, the arithmetic).
    """
    axes = tuple(range(1, noise.ndim))
    found = noise + (plus - minus)
    wanted, had = (jnp.sum(each**2, axes, keepdims=True) for each in (noise, found))
    return found * jnp.sqrt(wanted / had)


def between(first: Array, second: Array, shares: Array) -> Array:
    """Noises on the great circle from `first` to `second` [...], [len(shares), ...] (Song 2021, D).

    All of them have a standard normal's norm; a straight line would pass nearer to zero.
    """
    cosine = jnp.vdot(first, second) / (jnp.linalg.norm(first) * jnp.linalg.norm(second))
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    shares = shares.reshape((-1,) + (1,) * first.ndim)
    parts = jnp.sin((1 - shares) * angle), jnp.sin(shares * angle)
    return (parts[0] * first + parts[1] * second) / jnp.sin(angle)
