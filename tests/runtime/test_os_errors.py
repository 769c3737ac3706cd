"""Errors of the system, in words for users."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cdal.runtime.errors import UserError
from cdal.runtime.files import new_folder, write_text
from cdal.runtime.os_errors import cannot_write, told_as
from helpers.files import full_disk


def system_error(code: int, *path: str) -> OSError:
    return OSError(code, os.strerror(code), *path)


@pytest.mark.parametrize("code", sorted(errno.errorcode))
def test_space_is_asked_for_only_where_it_lacks(code: int):
    told = str(cannot_write(Path("a"), system_error(code)))
    assert told.startswith(f"a cannot be written: {os.strerror(code)}. ")
    assert ("Free some space" in told) == (code in (errno.ENOSPC, errno.EDQUOT))
    assert ("May you read and write there?" in told) == (code in (errno.EACCES, errno.EPERM))


def test_an_error_names_the_file_that_was_asked_for(tmp_path: Path):
    """Made in a scratch folder, moved when it is whole."""
    asked = tmp_path / "made" / "deep" / "a.txt"
    with (
        pytest.raises(UserError) as told,
        new_folder(tmp_path / "made") as folder,
        full_disk(1),
    ):
        write_text(folder / "deep" / "a.txt", "long")
    assert str(told.value).startswith(f"{asked} cannot be written: ")
    assert ".cdal-" not in str(told.value)


def test_so_does_one_that_nobody_has_explained():
    made, target = Path("/x/.cdal-1/data"), Path("/x/made")
    with (
        pytest.raises(UserError, match=r"^/x/made/a cannot be written: No space.*Free some"),
        told_as(made, target),
    ):
        raise system_error(errno.ENOSPC, "/x/.cdal-1/data/a")
    for error in (system_error(errno.ENOSPC, "/y"), system_error(errno.ENOSPC), UserError("no")):
        with pytest.raises(type(error)) as raised, told_as(made, target):
            raise error
        assert raised.value is error
