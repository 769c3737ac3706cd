"""The baselines that cDAL is compared with, written from their papers, and networks of your own.

Each baseline has its own file, is a `Segmenter`, and has its own settings in the recipe.
`cdal.recipes.systems` lists their names. All are trained by the same loop, with the augmentation
and the learning-rate schedule of the recipe.

Convolutional networks use instance normalisation, even if their papers use batch normalisation or
none, because batches are small and volumes are large. The number of parameters is the same.
"""

from __future__ import annotations
