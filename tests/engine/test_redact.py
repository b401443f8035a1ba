"""redact.py: a name's pseudonym is the same for ever, and says nothing of the name."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonefrac.errors import OutputError
from bonefrac.redact import Redaction

names = st.binary(min_size=1, max_size=60).filter(lambda name: b"\0" not in name).map(os.fsdecode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "names.jsonl"


@given(st.lists(names, max_size=8))
def test_a_name_keeps_its_pseudonym_and_shares_it_with_none(several: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "names.jsonl"
        first = Redaction(path)
        given_ = {name: first(name) for name in several}
        again = Redaction(path)
        assert {name: first(name) for name in several} == {name: again(name) for name in several} == given_
        assert len(set(given_.values())) == len(set(several))
        assert all(re.fullmatch("[0-9a-f]{16}", pseudonym) for pseudonym in given_.values())
        assert len(path.read_bytes().splitlines()) == 1 + len(set(several))  # a name is written once


def test_the_map_names_each_pseudonym(path: Path) -> None:
    odd = os.fsdecode(b"M\xfcller \n.jpg")
    pseudonym = Redaction(path)(odd)
    (line,) = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert line == {"pseudonym": pseudonym, "name": odd}


def test_another_key_gives_another_pseudonym(tmp_path: Path) -> None:
    """A plain hash could be undone by trying names."""
    one, other = (Redaction(tmp_path / file)("Smith^John.dcm") for file in ("one", "other"))
    assert one != other


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_only_the_owner_may_read_it_whatever_the_umask(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        Redaction(path)("a")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_a_power_cut_left_half_written_is_cut_off(path: Path, cut: int) -> None:
    kept = Redaction(path)("kept")
    Redaction(path)("torn")
    os.truncate(path, path.stat().st_size - cut)
    again = Redaction(path)
    assert again("kept") == kept
    torn = again("torn")
    assert Redaction(path)("torn") == torn


def test_a_key_that_a_power_cut_left_half_written_is_made_anew(path: Path) -> None:
    path.write_bytes(b'{"key": "0011')
    pseudonym = Redaction(path)("a")
    assert Redaction(path)("a") == pseudonym


@pytest.mark.parametrize(
    "content", [b"\n", b"[]\n", b"{}\n", b'{"key": 5}\n', b'{"key": "xyz"}\n', b'{"key": "00"}\n[]\n', b"\xff\n"]
)
def test_what_is_no_map_is_told_and_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is no map of names"):
        Redaction(path)
    assert path.read_bytes() == content


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_in_the_middle_of_a_line_spoils_nothing(small_disk: Path) -> None:
    path = small_disk / "names.jsonl"
    redaction, given_ = Redaction(path), {}

    def fill() -> None:
        for number in range(10_000):
            given_[f"{number:050}"] = redaction(f"{number:050}")

    with pytest.raises(OSError, match="No space left"):
        fill()
    with pytest.raises(OSError, match="No space left"):
        redaction("one more" * 20)
    assert len(given_) > 100
    subprocess.run(["mount", "-o", "remount,size=1m", small_disk], check=True)
    given_["one more"] = redaction("one more")
    again = Redaction(path)
    assert {name: again(name) for name in given_} == given_
