"""Shared by all tests: drawn films, files made byte by byte, and the shipped model. No real film is needed."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from bonefrac.model import Model
from bonefrac.synthetic import draw_radiograph

settings.register_profile(
    "bonefrac",
    deadline=None,  # a clinic's PC is slow, and so is a busy builder
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("bonefrac")

FLAGSHIP = Path(__file__).parents[1] / "models" / "flagship"
Pixels = np.ndarray[Any, Any]


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Optimised graphs and tuning profiles of these tests are not those of this machine's user, nor the reverse."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name)))
        yield


@lru_cache(maxsize=32)
def _drawn(seed: int, fractured: bool, height: int, width: int) -> Pixels:
    pixels = draw_radiograph(seed, fractured=fractured, height=height, width=width).pixels
    pixels.setflags(write=False)
    return pixels


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Pixels]:
    """drawn(seed, fractured) -> uint16 film of 12 bits, 500 x 380 px unless told otherwise."""

    def make(seed: int = 1, *, fractured: bool = True, height: int = 500, width: int = 380) -> Pixels:
        return _drawn(seed, fractured, height, width)

    return make


@pytest.fixture(scope="session")
def grey(drawn: Callable[..., Pixels]) -> Pixels:
    """One drawn film as uint8 (500, 380)."""
    return (drawn() >> 4).astype(np.uint8)


def encode(suffix: str, pixels: Pixels, *parameters: int) -> bytes:
    """OpenCV's encoder."""
    return cv2.imencode(suffix, pixels, list(parameters))[1].tobytes()


@pytest.fixture(scope="session")
def as_file() -> Callable[..., bytes]:
    """as_file(".jpg", pixels, *OpenCV parameters) -> the bytes of an image file."""
    return encode


@pytest.fixture(scope="session")
def jpeg(grey: Pixels) -> bytes:
    """A baseline grey JPEG of a drawn film."""
    return encode(".jpg", grey)


@pytest.fixture(scope="session")
def write_film(drawn: Callable[..., Pixels]) -> Callable[..., bytes]:
    """write_film(path, seed, fractured=True): a drawn film on disk, in the format of the suffix; returns its bytes."""

    def write(path: Path, seed: int = 1, *, fractured: bool = True) -> bytes:
        pixels = drawn(seed, fractured=fractured)
        data = encode(path.suffix, pixels if path.suffix != ".jpg" else (pixels >> 4).astype(np.uint8))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data

    return write


@pytest.fixture(scope="session")
def make_png() -> Callable[..., bytes]:
    """make_png(width, height, bits, colour, rows, chunks=[]): a PNG byte by byte; `rows` are without filter bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def make(
        width: int, height: int, bits: int, colour: int, rows: list[bytes], chunks: tuple[tuple[bytes, bytes], ...] = ()
    ) -> bytes:
        parts = [
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
            *(chunk(kind, body) for kind, body in chunks),
            chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
            chunk(b"IEND", b""),
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

    return make


@pytest.fixture(scope="session")
def make_tiff() -> Callable[..., bytes]:
    """make_tiff(pixels, **changes): an uncompressed grey TIFF 6.0 of one strip, byte by byte, directory first."""

    def make(
        pixels: Pixels, *, orientation: int = 1, photometric: int = 1, pages: int = 1, order: str = "<", bits: int = 0
    ) -> bytes:
        height, width = pixels.shape
        strip = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
        pixels_at = 8 + pages * (2 + 10 * 12 + 4)
        short, long = 3, 4
        tags = [(256, long, width), (257, long, height), (258, short, bits or pixels.itemsize * 8), (259, short, 1),
                (262, short, photometric), (273, long, pixels_at), (274, short, orientation), (277, short, 1),
                (278, long, height), (279, long, len(strip))]  # fmt: skip
        data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
        for page in range(pages):
            data += struct.pack(order + "H", len(tags))
            for tag, kind, value in tags:
                packed = struct.pack(order + ("H2x" if kind == short else "I"), value)
                data += struct.pack(order + "HHI", tag, kind, 1) + packed
            data += struct.pack(order + "I", len(data) + 4 if page + 1 < pages else 0)
        return data + strip

    return make


@pytest.fixture(scope="session")
def exif() -> Callable[..., bytes]:
    """exif(orientation, order="<"): a TIFF directory that holds nothing but the orientation, as EXIF has it."""

    def make(orientation: int, order: str = "<") -> bytes:
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
        return head + struct.pack(order + "HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)

    return make


@pytest.fixture(scope="session")
def with_exif(exif: Callable[..., bytes]) -> Callable[..., bytes]:
    """with_exif(jpeg, orientation, order="<"): the same JPEG with an EXIF block."""

    def make(data: bytes, orientation: int, order: str = "<") -> bytes:
        body = b"Exif\0\0" + exif(orientation, order)
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]

    return make


@pytest.fixture(scope="session")
def flagship() -> Path:
    """The folder of the shipped bundle."""
    return FLAGSHIP


@pytest.fixture(scope="session")
def model() -> Model:
    """The shipped bundle as it runs by default."""
    return Model(FLAGSHIP)


@pytest.fixture(scope="session")
def float_model() -> Model:
    """The shipped bundle in float32."""
    return Model(FLAGSHIP, precision="float32")


@pytest.fixture
def as_nobody(tmp_path: Path) -> Callable[[], AbstractContextManager[None]]:
    """`with as_nobody():` runs as a user without rights, for permission bits do not bite root."""

    @contextmanager
    def become() -> Iterator[None]:
        if os.geteuid() != 0:
            yield
            return
        closed = [folder for folder in (tmp_path, *tmp_path.parents) if folder.stat().st_mode & 0o055 != 0o055]
        modes = [folder.stat().st_mode & 0o7777 for folder in closed]
        for folder, mode in zip(closed, modes, strict=True):
            folder.chmod(mode | 0o055)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
            for folder, mode in zip(closed, modes, strict=True):
                folder.chmod(mode)

    return become
