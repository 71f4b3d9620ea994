"""The CPU path of recurrent_cell: its matrix products, the panels they read, and sizes that need more than one of each.

Shapes: I rows, K depth, J columns, G gates, H heads, D units, E units of y.
"""

import numpy as np
import pytest
import torch
from case_list import MODULES
from comparing import assert_close, assert_equal, run
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_case import OperatorCase
from torch.utils._pytree import tree_map

from visionseq.kernels.recurrent_cell.panels import backward_panels, forward_panels
from visionseq.kernels.recurrent_cell.product import LANES, add_outer, add_product, round_up

every_cell = pytest.mark.parametrize("cell", ["elman", "lstm", "gru", "slstm"])
sizes = st.integers(1, 70)


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def panels_of(matrix_KJ: np.ndarray) -> np.ndarray:
    """[ceil(J / LANES), K, LANES], zero beyond the last column."""
    depth, columns = matrix_KJ.shape
    padded = np.zeros((depth, round_up(columns, LANES)), np.float32)
    padded[:, :columns] = matrix_KJ
    return np.ascontiguousarray(padded.reshape(depth, -1, LANES).transpose(1, 0, 2))


def assert_product(actual_IJ: np.ndarray, a_IK: np.ndarray, matrix_KJ: np.ndarray, before_IJ: np.ndarray) -> None:
    """Equal to the product in float64, with the error that a sum of so many float32 terms may have."""
    a_IK, matrix_KJ = a_IK.astype(np.float64), matrix_KJ.astype(np.float64)
    allowed_IJ = 2.0**-23 * (len(matrix_KJ) + 2) * (abs(a_IK) @ abs(matrix_KJ) + abs(before_IJ))
    assert (abs(actual_IJ - (before_IJ + a_IK @ matrix_KJ)) <= allowed_IJ).all()


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 13), depth=sizes, columns=sizes, spare=st.integers(0, 3))
def test_products_of_any_size(rows: int, depth: int, columns: int, spare: int):
    """out += a matrix, with rows of `a` and `out` that are longer, and rows of `out` that are not asked for."""
    a, matrix = draw(rows, depth + spare), draw(depth, columns)
    before = draw(rows + spare, round_up(columns, LANES) + spare)
    out = before.copy()
    add_product(out, a, panels_of(matrix), rows, depth)
    assert_product(out[:rows, :columns], a[:, :depth], matrix, before[:rows, :columns])
    out[:rows, : round_up(columns, LANES)] = before[:rows, : round_up(columns, LANES)]
    assert np.array_equal(out, before)


@settings(max_examples=60, deadline=None)
@given(rows=sizes, depth=sizes, columns=st.integers(1, 300), spare=st.integers(0, 3))
def test_outer_products_of_any_size(rows: int, depth: int, columns: int, spare: int):
    """out += a^T matrix, of the first `depth` rows of both."""
    a, matrix = draw(depth + spare, rows + spare), draw(depth + spare, columns)
    before = draw(rows, round_up(columns, LANES))
    out = before.copy()
    add_outer(out, a, panels_of(matrix), depth)
    assert_product(out[:, :columns], a[:depth, :rows].T, matrix[:depth], before[:, :columns])


@pytest.mark.parametrize("rows", range(2, 14))
def test_a_row_has_the_same_bits_alone(rows: int):
    a, panels = draw(rows, 45), panels_of(draw(45, 100))
    together, alone = np.zeros((rows, 112), np.float32), np.zeros((rows, 112), np.float32)
    add_product(together, a, panels, rows, 45)
    for i in range(rows):
        add_product(alone[i : i + 1], a[i : i + 1], panels, 1, 45)
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("gates", [1, 3, 4])
@pytest.mark.parametrize("units", [1, 16, 37, 70, 130])
def test_panels_hold_the_weights(gates: int, units: int):
    R_GHDE = draw(gates, 2, units, units)
    panels, width = forward_panels(R_GHDE)
    columns = panels.transpose(0, 1, 3, 2, 4).reshape(2, panels.shape[1], units, gates, width)
    in_units_HEGD = columns.transpose(0, 2, 3, 1, 4).reshape(2, units, gates, -1)
    assert np.array_equal(in_units_HEGD[..., :units], R_GHDE.transpose(1, 3, 0, 2))
    assert not in_units_HEGD[..., units:].any()
    rows_HKE = backward_panels(R_GHDE).transpose(0, 2, 1, 3).reshape(2, gates * units, -1)
    assert np.array_equal(rows_HKE[..., :units], R_GHDE.transpose(1, 0, 2, 3).reshape(2, -1, units))
    assert not rows_HKE[..., units:].any()


def large(cell: str, **options) -> OperatorCase:
    """Of several blocks of units, none of them full."""
    return MODULES["recurrent_cell"].case(f"large-{cell}", cell, 83, **options)


@every_cell
def test_blocks_of_sequences_and_units_agree_with_the_reference(cell: str):
    """18 sequences are two items, 18 * 11 tokens more than are collected for one product."""
    case = large(cell)
    values = case.make(11, batch=18)
    expected = run(case, values, torch.float64, backend="reference")
    one = run(case, values, backend="cpu")
    assert_close(one, expected, case)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 2)
    try:
        assert_equal(run(case, values, backend="cpu"), one)
    finally:
        torch.set_num_threads(threads)


@every_cell
@pytest.mark.parametrize("reverse", [False, True])
def test_outputs_alone_are_the_first_states(cell: str, reverse: bool):
    """The other states are kept elsewhere, which changes no bit of y, the final state and the gradients."""
    case, bounds = large(cell), torch.tensor([0, 3, 3, 10])
    values = tree_map(torch.Tensor.float, case.make(10, batch=1, segments=3))
    gradients = []
    for outputs_only in (False, True):
        inputs = tree_map(lambda tensor: tensor.clone().requires_grad_(), values)
        options = {"outputs_only": outputs_only, "cu_seqlens": bounds, "reverse": reverse, "backend": "cpu"}
        states, final = case.call(inputs, **options)
        y = states if outputs_only else states[:, :, 0]
        (y.square().sum() + final.square().sum()).backward()
        gradients.append([y, final, *(tensor.grad for tensor in inputs.values())])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
