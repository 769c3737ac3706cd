"""cDAL as a segmenter: Algorithm 1 in `turns`, Algorithm 2 in `sample`.

Both are in the supplement of Hejrati et al., MICCAI 2024.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cdal.datasets.batch import Batch
from cdal.recipes.cdal import CDALSettings
from cdal.recipes.settings import DataSettings
from cdal.segmenters.diffusion.attention import attention_map
from cdal.segmenters.diffusion.blocks import leaky_relu
from cdal.segmenters.diffusion.discriminator import Discriminator, r1_penalty
from cdal.segmenters.diffusion.draws import Draws
from cdal.segmenters.diffusion.fast import FastGenerator, to_x0
from cdal.segmenters.diffusion.generator import Features, Generator
from cdal.segmenters.diffusion.labels import label_channels, label_count, to_probabilities
from cdal.segmenters.diffusion.paper import PaperGenerator
from cdal.segmenters.diffusion.schedule import (
    diffuse,
    diffuse_one_step,
    make_schedule,
    posterior_weights,
    sample_posterior,
)
from cdal.segmenters.draws import rand, randint, randn
from cdal.segmenters.losses import (
    dice_and_cross_entropy,
    dice_and_cross_entropy_of_logits,
    energy_score,
    iou_energy_score,
)
from cdal.segmenters.random_inputs import RandomInputs
from cdal.segmenters.segmenter import Graph, Segmenter, Turn, one_hot, sum_of, turn


class CDAL(Segmenter):
    """Conditional diffusion with spatial attention and latent embedding.

    Args:
        generator: generator x_theta.
        discriminator: discriminator D; `None` for prediction, or if neither the attention nor the
            adversarial term needs it.
        classes: K, the number of classes. Two classes share one label channel; more have one each.
        settings: settings of the losses and the sampling, see `CDALSettings`.
    """

    predictor = "generator"

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator | None,
        classes: int,
        settings: CDALSettings,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = discriminator
        self.classes = classes
        self.settings = settings

    def players(self) -> dict[str, nn.Module]:
        """See `Segmenter.players`: the generator and, if present, the discriminator."""
        players: dict[str, nn.Module] = {"generator": self.generator}
        return (
            players
            if self.discriminator is None
            else players | {"discriminator": self.discriminator}
        )

    @property
    def stochastic(self) -> bool:
        """Whether sampling runs the diffusion."""
        return self.settings.stochastic

    def kind(self, step: int) -> tuple[bool, bool]:
        """See `Segmenter.kind`: whether D has a turn, and whether its gradient is penalised."""
        number, rest = divmod(step, self.settings.discriminator_every)
        judged = self.discriminator is not None and rest == 0
        return judged, judged and self.settings.r1 > 0 and number % self.settings.r1_every == 0

    def turns(self, batch: Batch, rng: torch.Generator, step: int) -> Iterator[Turn]:
        """Algorithm 1: D on a real and a fake pair, then G on the attended label.

        All labels are folded, see `Generator`. Several annotators of an image are further samples
        with the same features.
        """
        T, generator = self.settings.timesteps, self.generator
        schedule = make_schedule(T, batch.image.device)
        truth = one_hot(batch.labels(), self.classes)
        x0 = generator.fold(label_channels(truth))
        t = randint(1, T + 1, len(x0), rng, x0)
        features = generator.encode(batch.image)
        if not self.settings.diffusion:
            yield turn(
                "generator",
                self._generator_terms(x0, truth, torch.zeros_like(x0), t, features, rng, None),
            )
            return

        judged, penalised = self.kind(step)
        discriminator = self.discriminator if judged else None
        if discriminator is None:
            attended = x0
        else:
            # The real pair is a Markov pair (Sec. 2.2). Alg. 1 prints one noise for both x_{t-1}
            # and x_t, which would let D recognise real pairs too easily.
            x_previous = diffuse(schedule, x0, t - 1, randn(x0.shape, rng, x0))
            x_t = diffuse_one_step(schedule, x_previous, t, randn(x0.shape, rng, x0))
            with torch.no_grad():
                x0_hat = generator.denoise(
                    x_t, t / T, self._latent(len(x0), rng, x0), features.detach()
                )
                x_previous_hat = sample_posterior(
                    schedule, x0_hat, x_t, t, randn(x0.shape, rng, x0)
                )
            pairs = (
                torch.cat([x_previous, x_previous_hat]),
                torch.cat([x_t, x_t]),
                torch.cat([t, t]) / T,
            )
            logits, map_features = discriminator(*pairs)
            (real, fake), map_features = logits.chunk(2), map_features.chunk(2)[1]
            terms = {"discriminator": F.softplus(-real).mean() + F.softplus(fake).mean()}
            if penalised:
                terms["r1"] = (
                    self.settings.r1
                    * self.settings.r1_every
                    * r1_penalty(discriminator, x_previous, x_t, t / T)
                )
            yield turn("discriminator", terms)
            # A_D uses the features of the fake pair, because D sees this pair last in Alg. 1.
            attention = attention_map(
                map_features, batch.image.shape[2:], self.settings.attention, rng
            )
            attended = (self._by_label(x0) * self._by_label(generator.fold(attention), 1)).flatten(
                1, 2
            )

        source = self._recycled(attended, features, rng)
        x_t = diffuse(schedule, source, t, randn(x0.shape, rng, x0))
        yield turn(
            "generator", self._generator_terms(x0, truth, x_t, t, features, rng, discriminator)
        )

    def _by_label(self, folded: Tensor, labels: int | None = None) -> Tensor:
        """Give folded labels an axis for L, `[N, L * f^n, *S / f] -> [N, L, f^n, *S / f]`."""
        return folded.unflatten(1, (labels or label_count(self.classes), -1))

    def draw(self, image: Tensor, votes: int, rng: torch.Generator) -> Draws:
        """Draw all random numbers for V votes: the noise of Eq. 2 and 3, and a new z at every step.

        The numbers of a vote do not depend on the number of votes.
        """
        steps, batch = self.settings.sampling_timesteps, image.shape[0]
        votes = votes if self.stochastic else 1
        folded = [size // self.generator.folding for size in image.shape[2:]]
        by_vote = [
            (self._noise(steps, batch, folded, rng, image), self._latents(steps, batch, rng, image))
            for _ in range(votes)
        ]
        return Draws(*(torch.cat(tensors, dim=1) for tensors in zip(*by_vote, strict=True)))

    draws_apart = True

    def draw_apart(self, image: Tensor, votes: int, rng: torch.Generator) -> list[Draws]:
        """See `Segmenter.draw_apart`."""
        return self.draw(image, votes, rng).by_image(len(image))

    @torch.no_grad()
    def sample_drawn(self, image: Tensor, draws: Sequence[Draws]) -> Tensor:
        """See `Segmenter.sample_drawn`."""
        return self.segment(image, Draws.of_images(draws), self.generator.noise_root())

    @torch.no_grad()
    def sample(self, image: Tensor, votes: int, rng: torch.Generator) -> Tensor:
        """Algorithm 2 for V votes at once.

        If `sampling_timesteps` is 0, the coarse segmentation is returned as the only vote.
        """
        return self.segment(image, self.draw(image, votes, rng), self.generator.noise_root())

    def graph(self) -> Graph:
        """See `Segmenter.graph`."""
        return _Traced(self)

    def segment(self, image: Tensor, draws: Draws, noise_root: Tensor | None) -> Tensor:
        """Algorithm 2 as a function: `sample` with all random draws given.

        Args:
            image: images `[B, C, *S]`.
            draws: all random draws, see `draw`.
            noise_root: result of `Generator.noise_root`.

        Returns:
            Probabilities `[V, B, K, *S]`.
        """
        generator, batch = self.generator, image.shape[0]
        features = generator.encode(image)
        T = len(draws.noise)
        if T == 0:
            assert features.coarse is not None  # recipes allow 0 only if the generator has one
            return to_probabilities(to_x0(generator.unfold(features.coarse)), bounded=True)[None]
        schedule, steps = make_schedule(T, image.device), range(T, 0, -1)
        # Created on the device: a copy from the CPU would wait for earlier work of the GPU, and a
        # CUDA graph cannot contain it.
        level = (torch.arange(T, 0, -1, device=image.device)[:, None] / T).expand(draws.z.shape[:2])
        embeddings = generator.modulation(level.flatten(), draws.z.flatten(0, 1)).unflatten(
            0, draws.z.shape[:2]
        )
        seen = seen_noise(draws.noise[0], noise_root)
        for i, step in enumerate(steps):
            x0 = generator.denoise_seen(seen, embeddings[i], features)
            if step > 1:
                weight_x_t, weight_x0, variance = posterior_weights(schedule, step)
                noise = seen_noise(draws.noise[i + 1], noise_root)
                seen = weight_x_t * seen + weight_x0 * generator.see(x0) + variance.sqrt() * noise
        return to_probabilities(generator.unfold(x0), generator.bounded).unflatten(0, (-1, batch))

    def _generator_terms(
        self,
        x0: Tensor,
        truth: Tensor,
        x_t: Tensor,
        t: Tensor,
        features: Features,
        rng: torch.Generator,
        discriminator: Discriminator | None,
    ) -> dict[str, Tensor]:
        """The weighted terms of the generator's loss.

        The adversarial term is included only if there is a discriminator.

        Terms that need a single prediction use the mean of the votes. With one vote they are the
        paper's. With several they leave the votes more freedom to differ.
        """
        settings, T, V = self.settings, self.settings.timesteps, self.settings.training_votes
        x_t, t = _per_vote(x_t, V), _per_vote(t, V)
        x0_hat = self.generator.denoise(
            x_t, t / T, self._latent(len(x_t), rng, x0), features
        ).float()
        by_vote = x0_hat.unflatten(0, (V, len(x0)))
        mean = by_vote.mean(dim=0)
        truth = self._by_label(self.generator.fold(truth), self.classes)
        probabilities = to_probabilities(self._by_label(mean), self.generator.bounded)
        terms = dice_and_cross_entropy(probabilities, truth, settings.dice, settings.cross_entropy)
        if settings.squared_error:
            terms["squared_error"] = settings.squared_error * F.mse_loss(mean, x0)  # Eq. 4
        if settings.energy:
            terms["energy"] = settings.energy * energy_score(by_vote, x0)
        if settings.iou_energy:
            votes = self._by_label(by_vote.flatten(0, 1)).unflatten(0, by_vote.shape[:2])
            terms["iou_energy"] = settings.iou_energy * iou_energy_score(
                (votes + 1) / 2, (self._by_label(x0) + 1) / 2
            )
        if settings.coarse and features.coarse is not None:
            coarse = _per_vote(self._by_label(features.coarse), len(truth) // len(features.coarse))
            of_coarse = dice_and_cross_entropy_of_logits(coarse, truth)
            terms["coarse"] = settings.coarse * sum_of(of_coarse)
        if settings.adversarial and discriminator is not None:
            # D judges each vote separately, so one vote per image is enough.
            x_t, t = x_t[: len(x0)], t[: len(x0)]
            x_previous_hat = sample_posterior(
                make_schedule(T, x0.device), by_vote[0], x_t, t, randn(x_t.shape, rng, x_t)
            )
            discriminator.requires_grad_(False)
            logits, _ = discriminator(x_previous_hat, x_t, t / T)
            discriminator.requires_grad_(True)
            terms["adversarial"] = (
                settings.adversarial * settings.discriminator_every * F.softplus(-logits).mean()
            )
        return terms

    def _recycled(self, attended: Tensor, features: Features, rng: torch.Generator) -> Tensor:
        """Replace some samples of the attended label by G's first guess.

        Sampling computes x_t from such guesses, not from true labels (Fu et al., MELBA 2023:016).
        """
        share = self.settings.recycling
        if not share:
            return attended
        chosen = rand((len(attended),), rng, attended) < share
        with torch.no_grad():
            level = torch.ones(len(attended), device=attended.device)
            noise = seen_noise(
                self._noise(1, len(attended), attended.shape[2:], rng, attended)[0],
                self.generator.noise_root(),
            )
            embedding = self.generator.modulation(level, self._latent(len(attended), rng, attended))
            guess = self.generator.denoise_seen(noise, embedding, features.detach())
        return torch.where(chosen.reshape(-1, *[1] * (attended.dim() - 1)), guess, attended)

    def _noise(
        self, steps: int, count: int, folded: Sequence[int], rng: torch.Generator, like: Tensor
    ) -> Tensor:
        """`Draws.noise` of one vote, for `count` images of the folded size."""
        shape = (steps, count, self.generator.noise_channels, *folded)
        drawn = self.settings.diffusion and steps
        return randn(shape, rng, like, axis=1) if drawn else like.new_zeros(shape)

    def _latent(self, count: int, rng: torch.Generator, like: Tensor) -> Tensor:
        """Draw z ~ N(0, I) (Sec. 2.3), `[count, latent]`; a constant for the controls."""
        return self._latents(1, count, rng, like)[0]

    def _latents(self, steps: int, count: int, rng: torch.Generator, like: Tensor) -> Tensor:
        """`_latent` for several steps, `[T, count, latent]`."""
        shape = (steps, count, self.settings.latent)
        if not self.settings.diffusion or not steps:
            return like.new_zeros(shape)
        constant = self.settings.z == "constant"
        return like.new_ones(shape) if constant else randn(shape, rng, like, axis=1)


class _Traced(Graph):
    """cDAL as a graph. The noise root is computed once, outside the graph."""

    root: Tensor | None

    def __init__(self, segmenter: CDAL) -> None:
        super().__init__()
        generator, settings = segmenter.generator, segmenter.settings
        self.segmenter, self.random = segmenter, RandomInputs()
        if segmenter.stochastic:
            self.random = RandomInputs(
                settings.sampling_timesteps,
                generator.noise_channels,
                generator.folding,
                settings.latent,
                settings.z,
            )
        self.register_buffer("root", generator.noise_root())

    def forward(self, image: Tensor, *draws: Tensor) -> Tensor:
        """See `Graph.forward`."""
        drawn = Draws(*draws) if draws else self.segmenter.draw(image, 1, torch.Generator())
        return self.segmenter.segment(image, drawn, self.root)[:, 0]


def seen_noise(noise: Tensor, root: Tensor | None) -> Tensor:
    """`Generator.see` of noise, from fewer numbers: R n at each position.

    Shapes: `[N, r, *S] -> [N, C, *S]`. Without a root, the noise is returned unchanged.
    """
    if root is None:
        return noise
    seen = (root @ noise.flatten(2)).unflatten(2, noise.shape[2:])
    return seen.contiguous(memory_format=torch.channels_last) if seen.dim() == 4 else seen


def _per_vote(x: Tensor, votes: int) -> Tensor:
    """Repeat for each vote, `[B, ...] -> [V * B, ...]`, vote after vote."""
    return x.repeat(votes, *[1] * (x.dim() - 1))


def build(
    settings: CDALSettings, data: DataSettings, image_channels: int, classes: int, training: bool
) -> CDAL:
    """See `cdal.segmenters.build`; the discriminator is built only for training."""
    spatial_dims = data.spatial_dims
    labels = label_count(classes)
    generator: Generator
    if settings.generator == "paper":
        generator = PaperGenerator(
            spatial_dims,
            image_channels,
            labels,
            settings.channels,
            settings.latent,
            settings.embedding,
        )
    else:
        generator = FastGenerator(
            spatial_dims,
            image_channels,
            labels,
            settings.channels,
            settings.denoiser_channels,
            settings.denoiser_blocks,
            settings.latent,
            settings.embedding,
        )
    discriminator = None
    if training and (settings.attention != "none" or settings.adversarial > 0):
        discriminator = Discriminator(
            spatial_dims,
            labels,
            settings.discriminator_channels,
            settings.embedding,
            generator.folding,
            settings.attention_downsample,
            F.silu if settings.generator == "paper" else leaky_relu,
        )
    return CDAL(generator, discriminator, classes, settings)
