"""A case's files as images on their own grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cdal.datasets.folder import open_folder
from cdal.datasets.reading import read_case
from cdal.runtime.errors import UserError
from helpers.files import make_folder, save_nifti


@pytest.mark.parametrize(
    ("label", "affine", "message"),
    [
        (np.zeros((6, 7, 9), np.uint8), np.eye(4), "expected the shape of its image"),
        (np.zeros((6, 7, 8), np.uint8), np.diag([2.0, 1, 1, 1]), "affine"),
        (
            np.full((6, 7, 8), 3, np.uint8),
            np.eye(4),
            r"expected classes 0 \(background\), 1 \(a\), 2 \(b\); it holds 3",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    label: np.ndarray, affine: np.ndarray, message: str, tmp_path: Path
):
    path = save_nifti(make_folder(tmp_path) / "labelsTr" / "c1.nii.gz", label, affine)
    folder = open_folder(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        read_case(folder.cases[1], folder)
    assert str(path) in str(caught.value)
