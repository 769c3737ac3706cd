"""The scripts of other projects that the page uses, and `make vendor`, which fetches them anew.

`vendor.json` lists them. Tests compare their checksums; nothing is fetched when cDAL is built.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "src" / "cdal" / "serve" / "web" / "vendor"


def listed() -> list[dict[str, str]]:
    """The rows of `vendor.json`."""
    rows: list[dict[str, str]] = json.loads((FOLDER / "vendor.json").read_text(encoding="utf-8"))
    return rows


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(row: dict[str, str], folder: Path) -> bytes:
    """Fetch a package with npm, and return the script in it."""
    package = f"{row['name']}@{row['version']}"
    packed = subprocess.run(
        ["npm", "pack", "--silent", "--pack-destination", str(folder), package],
        check=True,
        capture_output=True,
        text=True,
    )
    tarball = folder / packed.stdout.split()[-1]
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != row["integrity"]:
        sys.exit(f"{package}: expected the integrity {row['integrity']}, found sha512-{digest}")
    with tarfile.open(tarball) as file:
        member = file.extractfile(row["member"])
        content = b"" if member is None else member.read()
    if sha256(content) != row["sha256"]:
        sys.exit(f"{package}: {row['member']} has another checksum: {sha256(content)}")
    return content


def main() -> None:
    """Fetch every script, compare it with its checksums, and put it into the folder."""
    with tempfile.TemporaryDirectory() as folder:
        for row in listed():
            (FOLDER / row["file"]).write_bytes(fetch(row, Path(folder)))


if __name__ == "__main__":
    main()
