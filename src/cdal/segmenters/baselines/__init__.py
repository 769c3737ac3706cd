"""The systems that cDAL is compared with, one file each, written from their papers; and networks of one's own.

Every one is a `Segmenter`, with settings of its own for the recipe; `cdal.recipes.systems` gives them names. All are trained by
the one training loop with the recipe's augmentation and learning-rate schedule. Convolutional networks have instance
normalisation where their papers have batch normalisation or none, as batches are small and volumes large; the number of
parameters is the same.
"""

from __future__ import annotations
