"""decode.py: every kind of file becomes an upright grey film, or says why not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonefrac.annotate import Drawing, annotate
from bonefrac.decode import decode
from bonefrac.errors import FilmError, NotAnalysed, Unreadable
from bonefrac.preprocess import InputSpec, ToFilm
from bonefrac.results import Finding, Radiograph, Source

Pixels = np.ndarray[Any, Any]
Make = Callable[..., Any]
FULL = 10_000  # a long side that asks for no reduction

UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {  # stored -> shown, CIPA DC-008 table of tag 274
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1, :],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: np.rot90(a, 1),
}


def rows_of(pixels: Pixels) -> list[bytes]:
    return [row.astype(pixels.dtype.newbyteorder(">")).tobytes() for row in pixels]


# --- damaged files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("share", [0.10, 0.50, 0.95])
def test_a_cut_jpeg_has_failed(grey: Pixels, as_file: Make, share: float, progressive: int) -> None:
    whole = as_file(".jpg", grey, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    decode(whole, long_side=320)
    with pytest.raises(Unreadable, match="cut short"):
        decode(whole[: int(len(whole) * share)], long_side=320)


def test_no_beginning_of_a_film_is_taken_for_a_film(grey: Pixels, as_file: Make) -> None:
    small = grey[100:220, 100:220]
    files = [as_file(".jpg", small), as_file(".jpg", small, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), as_file(".png", small)]
    for whole in files:
        decode(whole, long_side=FULL)

    @given(st.sampled_from(files), st.floats(0, 1, exclude_max=True), st.integers(1, 3))
    def cut(whole: bytes, share: float, less: int) -> None:
        for end in (int(share * len(whole)), len(whole) - less):
            with pytest.raises(FilmError):
                decode(whole[:end], long_side=FULL)

    cut()


@pytest.mark.parametrize("share", [0.10, 0.50, 0.95])
def test_a_cut_png_has_failed(grey: Pixels, as_file: Make, share: float) -> None:
    whole = as_file(".png", grey)
    with pytest.raises(Unreadable, match="cut short"):
        decode(whole[: int(len(whole) * share)], long_side=320)


def test_a_png_whose_pixels_stop_early_has_failed(make_png: Make, grey: Pixels) -> None:
    """Its writer was stopped, but every checksum is right: only the decoder can tell."""
    height, width = grey.shape
    with pytest.raises(Unreadable):
        decode(make_png(width, height, 8, 0, rows_of(grey)[: height // 2]), long_side=320)


def test_a_png_with_a_flipped_byte_has_failed(grey: Pixels, as_file: Make) -> None:
    damaged = bytearray(as_file(".png", grey))
    damaged[len(damaged) // 2] ^= 0x10
    with pytest.raises(Unreadable, match="checksum"):
        decode(bytes(damaged), long_side=320)


@pytest.mark.parametrize("share", [0.10, 0.50, 0.95])
def test_a_cut_tiff_has_failed(make_tiff: Make, drawn: Make, as_file: Make, share: float) -> None:
    for whole in (make_tiff(drawn()), as_file(".tif", drawn())):
        with pytest.raises(Unreadable):
            decode(whole[: int(len(whole) * share)], long_side=320)


def test_a_compressed_tiff_with_damaged_pixels_has_failed(drawn: Make, as_file: Make) -> None:
    damaged = bytearray(as_file(".tif", drawn()))
    damaged[len(damaged) // 3 : len(damaged) // 2] = bytes(len(damaged) // 2 - len(damaged) // 3)
    with pytest.raises(Unreadable):
        decode(bytes(damaged), long_side=320)


@pytest.mark.parametrize("data", [b"", bytes(100_000)], ids=["0 bytes", "all zeros"])
def test_an_empty_file_has_failed(data: bytes) -> None:
    with pytest.raises(Unreadable):
        decode(data, long_side=320)


_MAGIC = st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\0\x08\0\0\0", b"MM\0*", b"GIF89a"])


@given(_MAGIC, st.binary(max_size=600))
def test_random_bytes_give_nothing_but_a_film_error(magic: bytes, rest: bytes) -> None:
    with pytest.raises(FilmError):
        decode(magic + rest, long_side=320)


def test_a_damaged_film_gives_a_film_or_a_film_error(make_tiff: Make, grey: Pixels, as_file: Make) -> None:
    small = grey[100:220, 100:220]
    files = [as_file(".jpg", small), as_file(".tif", small), make_tiff(small), as_file(".png", small)]

    @settings(max_examples=100)
    @given(st.sampled_from(files), st.floats(0, 1, exclude_max=True), st.integers(0, 255))
    def changed(data: bytes, share: float, value: int) -> None:
        damaged = bytearray(data)
        damaged[int(share**3 * len(data))] = value  # mostly the header
        try:
            film = decode(bytes(damaged), long_side=FULL)
        except FilmError:
            return
        assert film.pixels.shape == (film.height, film.width)

    changed()


# --- not a radiograph ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"a letter\n" * 50, "not an image"), (b"GIF89a" + bytes(99), "GIF"), (b"%PDF-1.4", "PDF"),
     (b"BM" + bytes(99), "BMP"), (bytes(128) + b"DICM" + bytes(99), "DICOM")],
)  # fmt: skip
def test_what_is_no_film_is_set_aside_by_its_name(data: bytes, name: str) -> None:
    with pytest.raises(NotAnalysed, match=name):
        decode(data, long_side=320)


def test_a_cmyk_jpeg_is_set_aside(grey: Pixels, as_file: Make) -> None:
    data = as_file(".jpg", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    at = data.index(b"\xff\xc0")
    end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
    frame = data[at + 4 : end]
    four = frame[:5] + b"\x04" + frame[6:] + b"\x04\x11\x00"
    cmyk = data[: at + 2] + struct.pack(">H", len(four) + 2) + four + data[end:]
    with pytest.raises(NotAnalysed, match="CMYK"):
        decode(cmyk, long_side=320)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (95, 400), (400, 95), (20_000, 20_000), (1, 100_000_000)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_tiny_or_giant_picture_is_refused_before_it_is_decoded(
    make_png: Make, make_tiff: Make, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, kind: str, width: int, height: int
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a decoder was called")

    monkeypatch.setattr(cv2, "imdecode", never)
    if kind == "JPEG":
        at = jpeg.index(b"\xff\xc0") + 5
        data = jpeg[:at] + struct.pack(">HH", height % 65536, width % 65536) + jpeg[at + 4 :]
    elif kind == "PNG":
        data = make_png(width, height, 8, 0, [b"\0"])
    else:
        data = bytearray(make_tiff(np.zeros((4, 4), np.uint8)))
        for at, value in ((10 + 8, width), (10 + 12 + 8, height)):
            struct.pack_into("<I", data, at, value)
    with pytest.raises(NotAnalysed, match=r"too small|too large"):
        decode(bytes(data), long_side=320)


def test_a_colour_photograph_is_set_aside(as_file: Make) -> None:
    rng = np.random.default_rng(0)
    photo = cv2.GaussianBlur(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8), (0, 0), 3)
    photo = cv2.normalize(photo, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
    for suffix in (".jpg", ".png", ".tif"):
        with pytest.raises(NotAnalysed, match="colour picture"):
            decode(as_file(suffix, photo), long_side=320)
    with pytest.raises(NotAnalysed, match="colour picture"):
        decode(as_file(".png", photo.astype(np.uint16) * 257), long_side=320)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_small_coloured_marker_does_not_make_a_film_a_photograph(grey: Pixels, as_file: Make, suffix: str) -> None:
    film = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    film[10:60, 10:60] = (0, 0, 230)
    assert decode(as_file(suffix, film), long_side=FULL).pixels.shape == grey.shape


@pytest.mark.parametrize("shade", [0, 90, 255])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_blank_frame_is_set_aside(as_file: Make, shade: int, dtype: type) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(-2, 3, (300, 300))
    most = np.iinfo(dtype).max
    frame = np.clip(shade * (most // 255) + noise, 0, most).astype(dtype)
    with pytest.raises(NotAnalysed, match="blank"):
        decode(as_file(".png", frame), long_side=320)


def test_a_16_bit_film_with_a_burnt_in_marker_of_full_scale_is_not_blank(drawn: Make, as_file: Make) -> None:
    film = (drawn() >> 2).copy()  # 10 bits used
    film[:30, :30] = 65535
    assert decode(as_file(".png", film), long_side=320).pixels.dtype == np.uint16


def test_our_own_picture_is_set_aside(grey: Pixels) -> None:
    film = Radiograph(grey, grey.shape[1], grey.shape[0])
    finding = Finding(Source("a.jpg", ""), "no_fracture_detected", 0.0, (), film.width, film.height)
    drawing = Drawing(np.zeros((20, 20), np.float32), InputSpec(320, 320), ToFilm(0, 0, 1, 1), 0.5, "m")
    with pytest.raises(NotAnalysed, match="made by bonefrac"):
        decode(annotate(film, finding, drawing), long_side=320)


# --- the pixels ------------------------------------------------------------------------------------------------


def test_grey_pixels_come_out_as_they_are_whatever_the_format(
    make_png: Make, make_tiff: Make, grey: Pixels, as_file: Make
) -> None:
    height, width = grey.shape
    for data in (as_file(".png", grey), as_file(".tif", grey), make_tiff(grey), make_tiff(grey, order=">"),
                 make_png(width, height, 8, 0, rows_of(grey))):  # fmt: skip
        film = decode(data, long_side=320)
        assert film.pixels.dtype == np.uint8
        assert np.array_equal(film.pixels, grey)
        assert (film.width, film.height) == (width, height)


def test_16_bit_films_keep_their_16_bits(make_tiff: Make, drawn: Make, as_file: Make) -> None:
    pixels = drawn()
    for data in (as_file(".png", pixels), as_file(".tif", pixels), make_tiff(pixels), make_tiff(pixels, order=">")):
        film = decode(data, long_side=320)
        assert film.pixels.dtype == np.uint16
        assert np.array_equal(film.pixels, pixels)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_white_is_zero_tiff_comes_out_with_bright_bone(make_tiff: Make, drawn: Make, grey: Pixels, bits: int) -> None:
    """PhotometricInterpretation 0: small numbers are white (TIFF 6.0, page 37)."""
    film = grey if bits == 8 else drawn()
    inverted = np.iinfo(film.dtype).max - film
    assert np.array_equal(decode(make_tiff(inverted, photometric=0), long_side=320).pixels, film)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_grey_film_stored_in_three_channels_equals_the_grey_film(grey: Pixels, as_file: Make, suffix: str) -> None:
    three = decode(as_file(suffix, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)), long_side=FULL)
    one = decode(as_file(suffix, grey), long_side=FULL)
    assert np.abs(three.pixels.astype(int) - one.pixels).max() <= (1 if suffix == ".jpg" else 0)


def test_a_grey_16_bit_film_stored_in_three_channels_equals_the_grey_film(drawn: Make, as_file: Make) -> None:
    film = decode(as_file(".png", cv2.cvtColor(drawn(), cv2.COLOR_GRAY2BGR)), long_side=FULL)
    assert film.pixels.dtype == np.uint16
    assert np.array_equal(film.pixels, drawn())


def test_transparent_pixels_are_black(make_png: Make, grey: Pixels) -> None:
    height, width = grey.shape
    alpha = np.full_like(grey, 255)
    alpha[:, :100] = 0
    expected = grey.copy()
    expected[:, :100] = 0
    colour = make_png(width, height, 8, 6, rows_of(np.dstack([grey, grey, grey, alpha])))
    plain = make_png(width, height, 8, 4, rows_of(np.dstack([grey, alpha])))
    for data in (colour, plain):
        assert np.array_equal(decode(data, long_side=320).pixels, expected)


def test_a_palette_png_shows_its_colours(make_png: Make, grey: Pixels) -> None:
    height, width = grey.shape
    palette = bytes(255 - index // 3 for index in range(768))  # entry i is the grey 255 - i
    data = make_png(width, height, 8, 3, rows_of(grey), ((b"PLTE", palette),))
    assert np.array_equal(decode(data, long_side=320).pixels, 255 - grey)


def test_a_1_bit_png_is_black_and_white(make_png: Make, grey: Pixels) -> None:
    bits = grey > 100
    packed = [np.packbits(row).tobytes() for row in bits]
    film = decode(make_png(grey.shape[1], grey.shape[0], 1, 0, packed), long_side=320)
    assert np.array_equal(film.pixels, bits * np.uint8(255))


# --- upright ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_exif_rotated_jpeg_is_turned_upright(jpeg: bytes, with_exif: Make, orientation: int) -> None:
    stored = decode(jpeg, long_side=FULL).pixels
    film = decode(with_exif(jpeg, orientation), long_side=FULL)
    expected = UPRIGHT[orientation](stored)
    assert np.array_equal(film.pixels, expected)
    assert (film.height, film.width) == expected.shape


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_rotated_tiff_is_turned_upright_once(
    make_tiff: Make, grey: Pixels, drawn: Make, orientation: int, bits: int
) -> None:
    stored = grey if bits == 8 else drawn()
    film = decode(make_tiff(stored, orientation=orientation), long_side=FULL)
    expected = UPRIGHT[orientation](stored)
    assert film.pixels.shape == expected.shape
    assert np.array_equal(film.pixels, expected)
    assert (film.height, film.width) == expected.shape


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_rotated_png_is_turned_upright(make_png: Make, exif: Make, grey: Pixels, orientation: int) -> None:
    height, width = grey.shape
    film = decode(make_png(width, height, 8, 0, rows_of(grey), ((b"eXIf", exif(orientation)),)), long_side=FULL)
    expected = UPRIGHT[orientation](grey)
    assert np.array_equal(film.pixels, expected)
    assert (film.height, film.width) == expected.shape


def test_a_tiff_orientation_that_does_not_exist_leaves_the_size_alone(make_tiff: Make, grey: Pixels) -> None:
    film = decode(make_tiff(grey, orientation=9), long_side=FULL)
    assert (film.height, film.width) == film.pixels.shape == grey.shape


# --- reduced decoding ------------------------------------------------------------------------------------------


@given(st.integers(96, 900), st.integers(96, 900), st.integers(40, 500), st.booleans())
def test_a_reduced_jpeg_keeps_the_long_side_that_was_asked_for(
    width: int, height: int, long_side: int, colour: bool
) -> None:
    ramp = np.tile(np.linspace(0, 255, width).astype(np.uint8), (height, 1))
    picture = cv2.cvtColor(ramp, cv2.COLOR_GRAY2BGR) if colour else ramp
    film = decode(cv2.imencode(".jpg", picture)[1].tobytes(), long_side=long_side)
    assert (film.width, film.height) == (width, height)
    assert max(film.pixels.shape) >= min(long_side, max(width, height))
    factor = round(max(width, height) / max(film.pixels.shape))
    assert film.pixels.shape == (-(-height // factor), -(-width // factor))


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_large_jpeg_is_decoded_small(grey: Pixels, as_file: Make, factor: int) -> None:
    large = cv2.resize(grey, (380 * factor, 500 * factor), interpolation=cv2.INTER_CUBIC)
    film = decode(as_file(".jpg", large), long_side=500)
    assert film.pixels.shape == (500, 380)
    assert (film.width, film.height) == (380 * factor, 500 * factor)
    assert np.abs(film.pixels.astype(int) - grey).mean() < 3
