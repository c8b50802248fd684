"""The safetensors format, against the reference library, and damaged files."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tisseract.atlas.errors import Corrupt, InvalidArgument
from tisseract.models.network.weights import pack_weights, unpack_weights

ARRAYS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "step": np.array([7]),
    "empty": np.zeros((0, 4)),
    "mark": np.arange(5, dtype=np.uint8),
    "seen": np.array([True, False, True]),
    "one": np.array(2.5),
}


def test_the_reference_library_reads_it() -> None:
    library = pytest.importorskip("safetensors.numpy")
    found = library.load(pack_weights(ARRAYS))
    assert found.keys() == ARRAYS.keys()
    assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)


def test_reads_what_the_reference_library_writes() -> None:
    library = pytest.importorskip("safetensors.numpy")
    found = unpack_weights(library.save(ARRAYS, metadata={"who": "other"}))
    assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 255))
def test_damage_is_an_error_or_other_numbers(place: int, value: int) -> None:
    data = bytearray(pack_weights(ARRAYS))
    data[place % len(data)] = value
    try:
        unpack_weights(bytes(data))
    except Corrupt:
        return


@settings(deadline=None)
@given(st.integers(0, 400))
def test_a_cut_file_is_refused(length: int) -> None:
    data = pack_weights(ARRAYS)
    if length < len(data):
        with pytest.raises(Corrupt, match="safetensors file"):
            unpack_weights(data[:length])


@pytest.mark.parametrize(
    "facts",
    [
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 400]},
        {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 4]},
        {"dtype": "O", "shape": [1], "data_offsets": [0, 4]},
    ],
)
def test_hostile_headers_are_refused(facts: dict[str, object]) -> None:
    text = json.dumps({"w": facts}).encode()
    with pytest.raises(Corrupt):
        unpack_weights(len(text).to_bytes(8, "little") + text + b"\0" * 8)


def test_unknown_dtypes_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="complex128"):
        pack_weights({"w": np.zeros(1, dtype=np.complex128)})
