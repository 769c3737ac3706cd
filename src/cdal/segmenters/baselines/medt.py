"""Medical Transformer (MedT): gated axial attention on the image and on a 4 x 4 grid of patches.

Valanarasu, Oza, Hacihaliloglu, Patel: "Medical Transformer: gated axial-attention for medical image
segmentation", MICCAI 2021. Each block attends along the height, then along the width. Three learned
gates weight the positions. The outputs of a shallow global branch and a deeper local branch are
added. The network has 1.53 M parameters at 128 x 128. The paper says 1.4 M, which a local stem as
narrow as the global one would give.

Ours:
- The size may be any multiple of 8. If an image is not of the size in training, the tables of
  positions are interpolated.
- The patches of the local branch form one batch.
- The gates are learned from the first step.
- Dice is added to the cross-entropy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.recipes.baselines import MEDT_GRID, MedTSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.segmenter import Segmenter, Supervised


def build(
    settings: MedTSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> Segmenter:
    """See `cdal.segmenters.build`."""
    height, width = data.size
    return Supervised(
        MedT(image_channels, classes, (height, width), settings.width, settings.heads), classes
    )


class MedT(nn.Module):
    """The sum of the global and the local branch, from images to logits.

    Shapes: `[B, C, H, W] -> [B, K, H, W]`.

    Args:
        image_channels: C, the number of image channels.
        classes: K, the number of classes.
        size: numbers of rows and columns in training, for the tables of positions.
        width: number of features inside the attention of the first stage.
        heads: number of heads of each attention.
    """

    def __init__(
        self, image_channels: int, classes: int, size: tuple[int, int], width: int, heads: int
    ) -> None:
        super().__init__()
        half = size[0] // 2, size[1] // 2
        patch = half[0] // MEDT_GRID, half[1] // MEDT_GRID
        self.whole = _Branch(image_channels, width // 2, half, width, (1, 2), heads)
        self.patches = _Branch(image_channels, 4 * width, patch, width, (1, 2, 4, 1), heads)
        self.head = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits."""
        logits: Tensor = self.head(self.whole(image) + _join(self.patches(_cut(image)), len(image)))
        return logits


class _Branch(nn.Module):
    """A stem that halves the size, stages of attention and a convolutional decoder.

    Shapes: `[B, C, H, W] -> [B, width, H, W]`.

    The local branch has more than two stages. It halves the output of the last stage once more
    before decoding.
    """

    def __init__(
        self,
        image_channels: int,
        stem: int,
        size: tuple[int, int],
        width: int,
        blocks: tuple[int, ...],
        heads: int,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _convolution(image_channels, stem, 7, 2),
            _convolution(stem, 8 * width, 3),
            _convolution(8 * width, stem, 3),
        )
        self.stages = nn.ModuleList()
        features = stem
        for stage, count in enumerate(blocks):
            inside = width * 2**stage
            layers: list[nn.Module] = []
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                layers.append(AxialBlock(features, inside, size, stride, heads))
                size = (-(-size[0] // stride), -(-size[1] // stride))
                features = 2 * inside
            self.stages.append(nn.Sequential(*layers))
        outputs = [2 * width * 2**stage for stage in range(len(blocks))]
        # Pooling and a convolution replace a strided convolution. Small patches have only one pixel
        # here, and for one pixel the bf16 gradient of a strided convolution in PyTorch (2.13) reads
        # uninitialised memory.
        halve = nn.AvgPool2d(2, ceil_mode=True)
        self.turn = (
            nn.Sequential(halve, nn.Conv2d(features, features, 3, padding=1))
            if len(blocks) > 2
            else None
        )
        self.decode = nn.ModuleList(
            nn.Conv2d(deep, shallow, 3, padding=1)
            for deep, shallow in zip(outputs[::-1], [*outputs[-2::-1], width], strict=True)
        )

    def forward(self, image: Tensor) -> Tensor:
        h = self.stem(image)
        skips = []
        for stage in self.stages:
            h = stage(h)
            skips.append(h)
        if self.turn is not None:
            h = F.relu(_enlarge(self.turn(h), skips[-1])) + skips[-1]
        for layer, like in zip(self.decode, [*skips[-2::-1], image], strict=True):
            h = F.relu(_enlarge(layer(h), like))
            h = h if like is image else h + like
        return h


class AxialBlock(nn.Module):
    """A residual block: attention along height and width, between 1 x 1 convolutions.

    Attention is applied along the height first, then along the width.

    Args:
        channels_in: number of features of the input; the output has `2 * width`.
        width: number of features inside the block.
        size: numbers of rows and columns in training, for the tables of positions.
        stride: factor by which the size is divided after the attention.
        heads: number of heads of each attention.
    """

    def __init__(
        self, channels_in: int, width: int, size: tuple[int, int], stride: int, heads: int
    ) -> None:
        super().__init__()
        self.before = _convolution(channels_in, width, 1)
        self.height, self.width = (GatedAxialAttention(width, span, heads) for span in size)
        self.shrink = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.after = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        )
        same = channels_in == 2 * width and stride == 1
        past = nn.Sequential(
            nn.Conv2d(channels_in, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        )
        self.past = nn.Identity() if same else nn.Sequential(self.shrink, past)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block, `[B, Cin, H, W] -> [B, 2 * width, H / stride, W / stride]`."""
        h = self.before(x)
        h = self.height(h.movedim(3, 1).flatten(0, 1)).unflatten(0, (len(x), -1)).movedim(1, 3)
        h = self.width(h.movedim(2, 1).flatten(0, 1)).unflatten(0, (len(x), -1)).movedim(1, 2)
        return F.relu(self.after(self.shrink(F.relu(h))) + self.past(x))


class GatedAxialAttention(nn.Module):
    """Attention along one axis with gated relative positions (Eq. 2 of the paper).

    Shapes: `[N, C, L] -> [N, C, L]`. In each head,

    y_i = sum_j softmax_j(q_i k_j + G_Q q_i r^q_ij + G_K k_j r^k_ij) (G_V1 v_j + G_V2 r^v_ij).

    Batch normalisation is applied to q, k and v, to the three terms inside the softmax, and to the
    two terms of the sum.

    Args:
        channels: C, the number of features of all heads. The q and the k of a head have half as
            many features as the head.
        span: length L in training. For other lengths, the table of positions is interpolated.
        heads: number of heads.
    """

    def __init__(self, channels: int, span: int, heads: int) -> None:
        super().__init__()
        self.heads, self.values = heads, channels // heads
        self.keys = self.values // 2
        self.to_qkv = nn.Sequential(
            nn.Conv1d(channels, 2 * channels, 1, bias=False), nn.BatchNorm1d(2 * channels)
        )
        self.positions = nn.Parameter(torch.randn(2 * self.values, 2 * span - 1) / self.values**0.5)
        self.gates = nn.Parameter(torch.tensor([0.1, 0.1, 1.0, 0.1]))  # G_Q, G_K, G_V1, G_V2
        self.norm_terms = nn.BatchNorm2d(3 * heads)
        self.norm_sums = nn.BatchNorm1d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply attention."""
        batch, channels, length = x.shape
        qkv = self.to_qkv(x).unflatten(1, (self.heads, -1))
        q, k, v = qkv.split([self.keys, self.keys, self.values], dim=2)
        r_q, r_k, r_v = (
            self._positions(length).to(q.dtype).split([self.keys, self.keys, self.values])
        )
        g_q, g_k, g_v1, g_v2 = self.gates
        content = torch.einsum("nhci,nhcj->nhij", q, k)
        by_query = g_q * torch.einsum("nhci,cij->nhij", q, r_q)
        by_key = g_k * torch.einsum("nhcj,cij->nhij", k, r_k)
        terms = self.norm_terms(torch.cat([content, by_query, by_key], dim=1)).unflatten(
            1, (3, self.heads)
        )
        weights = terms.sum(dim=1).softmax(dim=-1).to(v.dtype)
        from_values = g_v1 * torch.einsum("nhij,nhcj->nhci", weights, v)
        from_positions = g_v2 * torch.einsum("nhij,cij->nhci", weights, r_v)
        sums = torch.cat([from_values, from_positions], dim=1).reshape(batch, 2 * channels, length)
        return self.norm_sums(sums).unflatten(1, (2, channels)).sum(dim=1)

    def _positions(self, length: int) -> Tensor:
        """The table of positions at i - j, `[2 * values, L, L]`."""
        table: Tensor = self.positions
        if table.shape[1] != 2 * length - 1:
            table = F.interpolate(
                table[None], size=2 * length - 1, mode="linear", align_corners=True
            )[0]
        steps = torch.arange(length, device=table.device)
        return table[:, steps[:, None] - steps[None, :] + length - 1]


def _convolution(channels_in: int, channels_out: int, kernel: int, stride: int = 1) -> nn.Module:
    layer = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear")


def _cut(image: Tensor) -> Tensor:
    """Cut images `[B, C, H, W]` into the patches of a 4 x 4 grid, `[B * 16, C, H / 4, W / 4]`."""
    grid = image.unflatten(2, (MEDT_GRID, -1)).unflatten(4, (MEDT_GRID, -1))  # [B, C, gy, h, gx, w]
    return grid.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def _join(patches: Tensor, batch: int) -> Tensor:
    """The inverse of `_cut`."""
    grid = patches.unflatten(0, (batch, MEDT_GRID, MEDT_GRID)).permute(0, 3, 1, 4, 2, 5)
    return grid.flatten(4, 5).flatten(2, 3)
