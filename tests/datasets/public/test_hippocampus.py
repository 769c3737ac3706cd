"""Hippocampus: volumes that do not belong are set aside, downloads are verified."""

from __future__ import annotations

import functools
import http.server
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cdal.datasets import public
from cdal.datasets.check import check_folder
from cdal.datasets.public import PUBLIC_SETS, prepare
from cdal.runtime.errors import UserError
from helpers.files import save_nifti


def decathlon(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(1, 8):
        label = np.zeros((30, 32, 34), np.uint8)
        label[5:10, 5:10, 5:10], label[15:20, 15:20, 15:20] = 1, 2
        save_nifti(
            root / f"imagesTr/hippocampus_{i:03d}.nii.gz",
            rng.normal(size=label.shape).astype(np.float32),
        )
        save_nifti(root / f"labelsTr/hippocampus_{i:03d}.nii.gz", label)
    return root


def test_volumes_that_do_not_belong_are_set_aside(tmp_path: Path):
    root = decathlon(tmp_path / "Task04_Hippocampus")
    (root / "imagesTr/._hippocampus_001.nii.gz").write_bytes(b"what macOS leaves")
    (root / "labelsTr/hippocampus_002.nii.gz").unlink()
    save_nifti(root / "labelsTr/hippocampus_003.nii.gz", np.zeros((30, 32, 35), np.uint8))
    save_nifti(root / "labelsTr/hippocampus_004.nii.gz", np.full((30, 32, 34), 3, np.uint8))
    save_nifti(root / "labelsTr/hippocampus_005.nii.gz", np.zeros((30, 32, 34), np.uint8))
    (root / "imagesTr/hippocampus_006.nii.gz").write_bytes(b"x")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(root, arcname=root.name)
    prepared = prepare("hippocampus", tmp_path / "a.tar.gz", tmp_path / "out")
    assert prepared.cases == 2
    reasons = {Path(path).name[12:15]: reason for path, reason in prepared.left_out.items()}
    assert reasons["002"] == "it has no label"
    assert "its shape is" in reasons["003"]
    assert "expected 0, 1, 2" in reasons["004"]
    assert "no such anatomy" in reasons["005"]
    assert "cannot be read" in reasons["006"]
    assert not check_folder(tmp_path / "out").errors


def test_the_real_volumes_are_known(hippocampus: Path, tmp_path: Path):
    prepared = prepare("hippocampus", hippocampus, tmp_path / "out")
    assert (prepared.cases, prepared.left_out, prepared.notes) == (260, {}, [])
    assert not check_folder(tmp_path / "out").errors


def test_without_a_connection_the_way_by_hand_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Port 9 of this machine refuses, as no server listens there."""
    changed = replace(PUBLIC_SETS["hippocampus"], address="http://127.0.0.1:9/a/Task04.tar")
    monkeypatch.setitem(public.PUBLIC_SETS, "hippocampus", changed)
    with pytest.raises(UserError) as error:
        prepare("hippocampus", "download", tmp_path / "out")
    told = str(error.value)
    assert "cannot be downloaded: no connection to 127.0.0.1. Fetch it by hand" in told
    assert told.endswith(f"then: cdal data prepare hippocampus Task04.tar {tmp_path / 'out'}")
    assert "Pool" not in told and "download TARGET" not in told


def test_a_download_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with tarfile.open(tmp_path / "archive.tar", "w") as archive:
        archive.add(decathlon(tmp_path / "Task04_Hippocampus"), arcname="Task04_Hippocampus")
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        import pooch

        address = f"http://127.0.0.1:{server.server_port}/archive.tar"
        right = "md5:" + pooch.file_hash(str(tmp_path / "archive.tar"), alg="md5")
        for checksum, works in ((right, True), ("md5:" + "0" * 32, False)):
            changed = replace(PUBLIC_SETS["hippocampus"], address=address, checksum=checksum)
            monkeypatch.setitem(public.PUBLIC_SETS, "hippocampus", changed)
            if works:
                assert prepare("hippocampus", "download", tmp_path / "out").cases == 7
            else:
                with pytest.raises(UserError, match="cannot be downloaded"):
                    prepare("hippocampus", "download", tmp_path / "other")
                assert not (tmp_path / "other").exists()
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(UserError, match="no address"):
        prepare("cxr", "download", tmp_path / "other")
