"""header.py: what a file says of itself, and whether it is whole."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonefrac.errors import FilmError, NotAnalysed, Unreadable
from bonefrac.header import MARK, Header, read_header

Pixels = np.ndarray[Any, Any]
Make = Callable[..., Any]


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def bare_jpeg(sof: int = 0xC0, bits: int = 8, width: int = 300, height: int = 200, channels: int = 1) -> bytes:
    """A JPEG of headers only: enough for what stands in them."""
    frame = struct.pack(">BHHB", bits, height, width, channels) + b"\x01\x11\x00" * channels
    return b"\xff\xd8" + segment(sof, frame) + segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"\x00\xff\xd9"


def test_a_jpeg_tells_its_size_and_components() -> None:
    assert read_header(bare_jpeg()) == Header("JPEG", 300, 200, 1, 8)
    assert read_header(bare_jpeg(sof=0xC2, channels=3)) == Header("JPEG", 300, 200, 3, 8)


def test_a_thumbnail_inside_exif_is_not_taken_for_the_film() -> None:
    inner = bare_jpeg(width=16, height=12)
    data = bare_jpeg()
    header = read_header(data[:2] + segment(0xE1, b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0\0\0\0\0" + inner) + data[2:])
    assert (header.width, header.height) == (300, 200)


def test_the_end_of_a_thumbnail_is_not_taken_for_the_end_of_a_cut_film() -> None:
    data = bare_jpeg()
    cut = data[:2] + segment(0xE1, b"Exif\0\0" + bare_jpeg()) + data[2:-2]
    with pytest.raises(Unreadable, match="cut short"):
        read_header(cut)


def test_fill_bytes_before_a_marker_are_allowed() -> None:
    data = bare_jpeg()
    assert read_header(data[:2] + b"\xff\xff\xff" + data[2:]).width == 300


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_read_in_both_byte_orders(with_exif: Make, orientation: int, order: str) -> None:
    assert read_header(with_exif(bare_jpeg(), orientation, order)).orientation == orientation


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_means_upright(
    with_exif: Make, make_tiff: Make, grey: Pixels, orientation: int
) -> None:
    assert read_header(with_exif(bare_jpeg(), orientation)).orientation == 1
    assert read_header(make_tiff(grey, orientation=orientation)).orientation == 1


@pytest.mark.parametrize("body", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"nonsense" * 3, b"MM\0*\0\0\0\x08\xff\xff"])
def test_damaged_exif_does_not_cost_the_film(body: bytes) -> None:
    data = bare_jpeg()
    assert read_header(data[:2] + segment(0xE1, b"Exif\0\0" + body) + data[2:]).orientation == 1


def test_a_cmyk_jpeg_is_set_aside() -> None:
    with pytest.raises(NotAnalysed, match="CMYK"):
        read_header(bare_jpeg(channels=4))


@pytest.mark.parametrize(("sof", "bits"), [(0xC3, 8), (0xC9, 8), (0xC1, 12)])
def test_a_jpeg_that_opencv_cannot_read_is_set_aside(sof: int, bits: int) -> None:
    with pytest.raises(NotAnalysed, match="lossless, arithmetic or 12-bit"):
        read_header(bare_jpeg(sof=sof, bits=bits))


def test_a_jpeg_without_a_frame_is_damaged() -> None:
    with pytest.raises(Unreadable, match="frame header"):
        read_header(b"\xff\xd8" + segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + b"\x00\xff\xd9")


def test_a_jpeg_without_a_marker_where_one_must_be_is_damaged() -> None:
    data = bare_jpeg()
    with pytest.raises(Unreadable, match="no marker"):
        read_header(data[:2] + b"\x00" + data[2:])


@pytest.mark.parametrize(
    ("colour", "bits", "channels"),
    [(0, 1, 1), (0, 16, 1), (2, 8, 3), (3, 8, 3), (4, 8, 2), (6, 16, 4)],
)
def test_a_png_tells_its_kind(make_png: Make, colour: int, bits: int, channels: int) -> None:
    data = make_png(120, 110, bits, colour, [b""])
    assert read_header(data) == Header("PNG", 120, 110, channels, bits)


def test_a_png_may_hold_an_orientation(make_png: Make, exif: Make) -> None:
    assert read_header(make_png(120, 110, 8, 0, [b""], ((b"eXIf", exif(6)),))).orientation == 6


def test_a_png_of_an_unknown_colour_kind_is_damaged(make_png: Make) -> None:
    with pytest.raises(Unreadable, match="header"):
        read_header(make_png(120, 110, 8, 5, [b""]))


def test_a_flipped_byte_anywhere_in_a_png_is_seen(grey: Pixels, as_file: Make) -> None:
    data = as_file(".png", grey[:100, :100])
    read_header(data)

    @given(st.integers(8, len(data) - 1), st.integers(1, 255))
    def flipped(at: int, change: int) -> None:
        damaged = bytearray(data)
        damaged[at] ^= change
        with pytest.raises(Unreadable):
            read_header(bytes(damaged))

    flipped()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_tells_its_size_in_both_byte_orders(make_tiff: Make, drawn: Make, order: str) -> None:
    header = read_header(make_tiff(drawn(), orientation=3, order=order))
    assert header == Header("TIFF", 380, 500, 1, 16, 3)


def test_a_tiff_of_several_pages_is_set_aside(make_tiff: Make, grey: Pixels) -> None:
    with pytest.raises(NotAnalysed, match="several pages"):
        read_header(make_tiff(grey, pages=2))


@pytest.mark.parametrize(
    ("change", "why"), [({"bits": 32}, "32-bit"), ({"bits": 1}, "1-bit"), ({"photometric": 5}, "CMYK")]
)
def test_a_tiff_of_other_samples_is_set_aside(make_tiff: Make, grey: Pixels, change: dict[str, int], why: str) -> None:
    with pytest.raises(NotAnalysed, match=why):
        read_header(make_tiff(grey, **change))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.95, 0.999])
def test_a_cut_tiff_is_damaged(make_tiff: Make, as_file: Make, drawn: Make, share: float) -> None:
    for whole in (make_tiff(drawn()), as_file(".tif", drawn())):
        read_header(whole)
        with pytest.raises(Unreadable):
            read_header(whole[: max(4, int(len(whole) * share))])


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF89a" + bytes(300), "GIF"),
        (b"BM" + bytes(300), "BMP"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"%PDF-1.7\n", "PDF"),
        (b"PK\x03\x04" + bytes(30), "ZIP"),
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (bytes(128) + b"DICM" + bytes(100), "DICOM"),
    ],
)
def test_a_foreign_format_is_set_aside_by_its_name(data: bytes, name: str) -> None:
    with pytest.raises(NotAnalysed, match=name):
        read_header(data)


def test_text_is_no_image() -> None:
    with pytest.raises(NotAnalysed, match="not an image"):
        read_header(b"Patient: none\n" * 40)


def test_an_empty_file_is_damaged() -> None:
    with pytest.raises(Unreadable, match="0 bytes"):
        read_header(b"")


def test_a_file_of_zeros_is_damaged() -> None:
    with pytest.raises(Unreadable, match="zero bytes"):
        read_header(bytes(5000))


def test_our_own_picture_is_known_again(make_png: Make) -> None:
    data = bare_jpeg()
    marked = data[:2] + segment(0xFE, MARK.encode()) + data[2:]
    png = make_png(120, 110, 8, 0, [b""], ((b"tEXt", b"Comment\0" + MARK.encode()),))
    for ours in (marked, png):
        with pytest.raises(NotAnalysed, match="made by bonefrac"):
            read_header(ours)
    assert read_header(data[:2] + segment(0xFE, b"another comment") + data[2:]).width == 300


_MAGIC = st.sampled_from(
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0"]
)


@given(_MAGIC, st.binary(max_size=400))
def test_any_bytes_give_a_header_or_a_film_error(magic: bytes, rest: bytes) -> None:
    try:
        header = read_header(magic + rest)
    except FilmError:
        return
    assert isinstance(header, Header)


def test_a_whole_file_with_any_change_gives_a_header_or_a_film_error(
    jpeg: bytes, make_tiff: Make, grey: Pixels, as_file: Make
) -> None:
    small = grey[:100, :100]
    files = [jpeg[:1500] + b"\xff\xd9", make_tiff(small), as_file(".tif", small), as_file(".png", small),
             as_file(".jpg", small, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)]  # fmt: skip

    @given(
        st.sampled_from(files), st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=4)
    )
    def changed(data: bytes, changes: list[tuple[int, int]]) -> None:
        damaged = bytearray(data)
        for at, value in changes:
            damaged[at % len(damaged)] = value
        try:
            header = read_header(bytes(damaged))
        except FilmError:
            return
        assert isinstance(header, Header)

    changed()
