"""DiT as its repository has it, in PyTorch: written anew, with our parameters, to be timed beside.

The model and the loops are those of Peebles & Xie (2023): adaLN-zero blocks, fused attention,
ancestral steps, and AdamW with an average of the parameters after every step.
"""

import copy
import importlib
from typing import Any

import jax
import numpy as np

torch: Any = importlib.import_module("torch")
functional = torch.nn.functional


class Block(torch.nn.Module):
    """Attention and perceptron, each shifted, scaled and gated by the condition."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = torch.nn.ModuleList(
            torch.nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2)
        )
        self.qkv, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.up, self.down = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)
        self.modulation = torch.nn.Linear(width, 6 * width)

    def forward(self, x: Any, condition: Any) -> Any:
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = (
            self.modulation(functional.silu(condition)).unsqueeze(1).chunk(6, -1)
        )
        y = self.norms[0](x) * (1 + scale) + shift
        batch, length, width = y.shape
        heads = self.qkv(y).reshape(batch, length, self.heads, 3, -1).permute(3, 0, 2, 1, 4)
        y = functional.scaled_dot_product_attention(*heads.unbind(0))
        x = x + gate * self.out(y.transpose(1, 2).reshape(batch, length, width))
        y = self.norms[1](x) * (1 + scale_mlp) + shift_mlp
        return x + gate_mlp * self.down(functional.gelu(self.up(y), approximate="tanh"))


class DiT(torch.nn.Module):
    """eps of images [B, C, H, W] at times [B] of classes [B]."""

    def __init__(self, model: Any, grid: np.ndarray) -> None:
        super().__init__()
        width, channels, patch = model.width, model.image_shape[-1], model.patch_size
        self.patch, self.frequencies = patch, model.time_features
        self.patches = torch.nn.Conv2d(channels, width, patch, stride=patch)
        self.register_buffer("grid", torch.from_numpy(grid))
        self.time = torch.nn.Sequential(
            torch.nn.Linear(model.time_features, width),
            torch.nn.SiLU(),
            torch.nn.Linear(width, width),
        )
        self.label = torch.nn.Embedding(model.num_classes + 1, width)
        self.blocks = torch.nn.ModuleList(Block(width, model.num_heads) for _ in range(model.depth))
        self.norm = torch.nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = torch.nn.Linear(width, 2 * width)
        self.final = torch.nn.Linear(width, patch * patch * channels)

    def forward(self, x: Any, time: Any, label: Any) -> Any:
        half = self.frequencies // 2
        rates = torch.exp(-np.log(10_000.0) * torch.arange(half) / half)
        angles = time[:, None] * rates
        condition = self.time(torch.cat([angles.cos(), angles.sin()], -1)) + self.label(label)
        batch, channels, height, across = x.shape
        x = self.patches(x).flatten(2).transpose(1, 2) + self.grid
        for block in self.blocks:
            x = block(x, condition)
        shift, scale = self.modulation(functional.silu(condition)).unsqueeze(1).chunk(2, -1)
        x = self.final(self.norm(x) * (1 + scale) + shift)
        x = x.reshape(batch, height // self.patch, across // self.patch, self.patch, self.patch, -1)
        return torch.einsum("nhwpqc->nchpwq", x).reshape(batch, channels, height, across)


@torch.no_grad()
def draw(model: Any, x: Any, label: Any, kept: np.ndarray) -> Any:
    """Ancestral steps (Ho 2020, algorithm 2) through the shares `kept` of the signal's variance,
    [steps], rising: the loop of the repository, x_0 clipped, a step an image's pass.
    """
    kept = np.append(kept, 1.0)
    for index in range(len(kept) - 1):
        now, to = kept[index], kept[index + 1]
        time = torch.full((len(x),), 1000.0 * (1 - index / (len(kept) - 1)))
        eps = model(x, time, label)
        x0 = ((x - (1 - now) ** 0.5 * eps) / now**0.5).clamp(-1, 1)
        beta = 1 - now / to
        mean = (beta * to**0.5 * x0 + (1 - to) * (now / to) ** 0.5 * x) / (1 - now)
        x = mean + (beta * (1 - to) / (1 - now)) ** 0.5 * torch.randn_like(x)
    return x


class Trainer:
    """A step of its training: the squared error of eps, AdamW, and an average of parameters."""

    def __init__(self, model: Any, rate: float = 1e-4, decay: float = 0.9999) -> None:
        self.model, self.average, self.decay = model, copy.deepcopy(model), decay
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)

    def step(self, x0: Any, label: Any) -> float:
        time = torch.randint(1000, (len(x0),))
        kept = (torch.cos(time / 1000 * np.pi / 2) ** 2).clamp(min=1e-4)[:, None, None, None]
        eps = torch.randn_like(x0)
        noisy = kept.sqrt() * x0 + (1 - kept).sqrt() * eps
        error = (self.model(noisy, time.float(), label) - eps).square().mean()
        self.optimizer.zero_grad()
        error.backward()
        self.optimizer.step()
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
            for mean, new in pairs:
                mean.mul_(self.decay).add_(new, alpha=1 - self.decay)
        return float(error.detach())


class UNet(torch.nn.Module):
    """diffusers' UNet2DModel of the shape of `config.model`, called as DiT is; it sees no class."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        widths = [model.width * times for times in model.channel_multipliers]
        attends = [
            (model.image_shape[0] >> level) in model.attention_resolutions
            for level in range(len(widths))
        ]
        self.network = importlib.import_module("diffusers").UNet2DModel(
            sample_size=model.image_shape[0],
            in_channels=model.image_shape[-1],
            out_channels=model.image_shape[-1],
            layers_per_block=model.blocks_per_level,
            block_out_channels=widths,
            down_block_types=["AttnDownBlock2D" if each else "DownBlock2D" for each in attends],
            up_block_types=["AttnUpBlock2D" if each else "UpBlock2D" for each in attends[::-1]],
            attention_head_dim=model.head_width,
            norm_num_groups=model.norm_groups,
        )

    def forward(self, x: Any, time: Any, label: Any) -> Any:
        return self.network(x, time).sample


def holding(model: Any, params: Any, grid: np.ndarray) -> DiT:
    """The network with our parameters."""
    peer, tree = DiT(model, grid), jax.tree.map(np.array, params)
    stack = tree["stack"]["blocks"]

    def fill(linear: Any, found: dict[str, np.ndarray]) -> None:
        bias = found["bias"].reshape(-1)
        linear.weight.data = torch.from_numpy(found["kernel"].reshape(-1, len(bias)).T.copy())
        linear.bias.data = torch.from_numpy(bias)

    fill(peer.time[0], tree["time"]["in"])
    fill(peer.time[2], tree["time"]["out"])
    fill(peer.modulation, tree["final_modulation"])
    fill(peer.final, tree["final"])
    fill(peer.patches, tree["patches"])
    peer.patches.weight.data = _as_window(peer.patches.weight.data, model)
    peer.label.weight.data = torch.from_numpy(tree["label"])
    for index, block in enumerate(peer.blocks):
        layer = jax.tree.map(lambda leaf, index=index: leaf[index], stack)
        fill(block.modulation, layer["modulation"])
        fill(block.qkv, layer["attention"]["qkv"])
        fill(block.out, layer["attention"]["out"])
        fill(block.up, layer["mlp"]["up"])
        fill(block.down, layer["mlp"]["down"])
    return peer


def _as_window(weight: Any, model: Any) -> Any:
    """The map from a patch's numbers, [D, p * p * C], as a convolution's, [D, C, p, p]."""
    patch = model.patch_size
    return weight.reshape(len(weight), patch, patch, -1).permute(0, 3, 1, 2).contiguous()
