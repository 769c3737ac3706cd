"""The method of Hejrati et al., MICCAI 2024.

"Conditional diffusion model with spatial attention and latent embedding for medical image
segmentation".
"""

from __future__ import annotations
