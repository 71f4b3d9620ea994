"""The contract of every operator: each fast backend against the float64 reference, and the invariants of a scan."""

import pytest
import torch
from case_list import CASES, ONE_PER_OPERATOR
from comparing import assert_close, assert_equal, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operator_case import OperatorCase, Timed
from torch.utils._pytree import tree_leaves, tree_map

from visionseq.errors import KernelArgumentError, KernelError
from visionseq.kernels.backends import implemented_backends

BACKENDS = ("reference", "cpu")
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_operator = pytest.mark.parametrize("case", ONE_PER_OPERATOR, ids=lambda case: case.name)
both_backends = pytest.mark.parametrize("backend", BACKENDS)


def operator_name(case: OperatorCase) -> str:
    return case.name.split("-")[0]


def fast_lengths(case: OperatorCase) -> list[int]:
    return [length for length in case.lengths if length % case.multiple == 0]


def directions(case: OperatorCase) -> list[dict[str, bool]]:
    return [{}, {"reverse": True}] if case.reversible else [{}]


@every_case
def test_cpu_agrees_with_the_float64_reference(case: OperatorCase):
    for length in fast_lengths(case):
        for state in (True, False):
            values = case.make(length, state=state, seed=length)
            for options in directions(case):
                expected = run(case, values, torch.float64, backend="reference", **options)
                assert_close(run(case, values, backend="cpu", **options), expected, case)


@every_case
def test_cpu_agrees_with_extreme_gates(case: OperatorCase):
    if not case.extreme:
        pytest.skip("no gates")
    values = case.make(70 - 70 % case.multiple, extreme=True)
    expected = run(case, values, torch.float64, backend="reference")
    actual = run(case, values, backend="cpu")
    assert all(tensor.isfinite().all() for tensor in actual.values())
    assert_close(actual, expected, case)


@every_case
def test_reference_passes_gradcheck(case: OperatorCase):
    values = case.make(4 * case.multiple if case.multiple < 4 else 2 * case.multiple, batch=1)
    leaves, structure = torch.utils._pytree.tree_flatten(values)
    leaves = [leaf.requires_grad_() for leaf in leaves]

    def function(*inputs):
        outputs = case.call(torch.utils._pytree.tree_unflatten(inputs, structure), backend="reference")
        return tuple(tensor for tensor in tree_leaves(outputs) if tensor is not None)

    if case.exact_outputs:
        pytest.skip("a surrogate gradient is not the derivative")
    assert torch.autograd.gradcheck(function, leaves, atol=1e-5, fast_mode=True)


@both_backends
@every_case
def test_reverse_is_a_flip(case: OperatorCase, backend: str):
    if not case.reversible:
        pytest.skip("no direction to reverse")
    values = case.make(6 * case.multiple)
    flipped = {name: value.flip(1) if name in case.timed else value for name, value in values.items()}
    *outputs, state = case.call(tree_map(torch.Tensor.float, values), backend=backend, reverse=True)
    *flipped_outputs, flipped_state = case.call(tree_map(torch.Tensor.float, flipped), backend=backend)
    for output, other in zip(outputs, flipped_outputs, strict=True):
        torch.testing.assert_close(output, other.flip(1))
    tree_map(torch.testing.assert_close, state, flipped_state)


@both_backends
@every_case
def test_packed_is_separate(case: OperatorCase, backend: str):
    if not case.packable:
        pytest.skip("not a sequence")
    lengths = [4 * case.multiple, 0, case.multiple, 7 * case.multiple, 0]
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    for options in directions(case):
        values = case.make(sum(lengths), batch=1, segments=len(lengths))
        packed = run(case, values, backend=backend, cu_seqlens=bounds.int(), **options)
        parts = [_segment(case, values, bounds, i) for i in range(len(lengths))]
        separate = [run(case, part, torch.float64, backend="reference", **options) for part in parts]
        for name in [name for name in packed if name.startswith(("output", "final"))]:
            axis = 1 if name.startswith("output") else case.state_axes()[int(name.split()[-1])]
            _compare(case, name, packed[name], torch.cat([run_[name] for run_ in separate], axis))


@every_case
def test_packed_gradients(case: OperatorCase):
    if not case.packable:
        pytest.skip("not a sequence")
    bounds = torch.tensor([0, 4, 4, 5, 12]) * case.multiple
    for state in (True, False):
        values = case.make(int(bounds[-1]), batch=1, segments=4, state=state)
        for options in directions(case):
            expected = run(case, values, torch.float64, backend="reference", cu_seqlens=bounds, **options)
            assert_close(run(case, values, backend="cpu", cu_seqlens=bounds, **options), expected, case)


@both_backends
@every_case
def test_carried_state_is_one_pass(case: OperatorCase, backend: str):
    if case.state is None or not case.packable:
        pytest.skip("no state to carry")
    values = tree_map(torch.Tensor.float, case.make(9 * case.multiple))
    cut = 4 * case.multiple
    *whole, final = case.call(values, backend=backend)
    first = {name: value[:, :cut] if name in case.timed else value for name, value in values.items()}
    *head, carried = case.call(first, backend=backend)
    second = {name: value[:, cut:] if name in case.timed else value for name, value in values.items()}
    *tail, end = case.call(second | {"initial_state": carried}, backend=backend)
    for one, *two in zip(whole, head, tail, strict=True):
        _compare(case, "output", torch.cat(two, 1), one)
    tree_map(lambda a, b: _compare(case, "state", a, b), end, final)


@every_case
def test_steps_are_the_scan(case: OperatorCase):
    if case.step is None:
        pytest.skip("no step for these options")
    values = tree_map(torch.Tensor.float, case.make(7 * case.multiple))
    *outputs, final = case.call(values, backend="reference")
    fixed = {name: value for name, value in values.items() if name in case.arguments and name not in case.timed}
    state, steps = values["initial_state"], []
    for t in range(7 * case.multiple):
        out, state = case.step({name: values[name][:, t] for name in case.timed}, fixed, state)
        steps.append(out if isinstance(out, tuple) else (out,))
    for i, output in enumerate(outputs):
        torch.testing.assert_close(torch.stack([step[i] for step in steps], 1), output, rtol=1e-5, atol=1e-5)
    tree_map(lambda a, b: torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5), state, final)


@every_case
def test_odd_strides(case: OperatorCase):
    """Transposed and expanded arguments give what contiguous ones give."""
    values = case.make(5 * case.multiple)
    expected = run(case, values, backend="cpu")
    odd = {k: v.mT.contiguous().mT if k in case.arguments and v.dim() > 2 else v for k, v in values.items()}
    assert_close(run(case, odd, backend="cpu"), expected, case, scale=0.05)
    wide = {k: v[:1].expand(2, *v.shape[1:]) if k in case.timed else v for k, v in values.items()}
    copied = tree_map(lambda x: x.contiguous(), wide)
    for actual, other in zip(
        tree_leaves(case.call(tree_map(torch.Tensor.float, wide), backend="cpu")),
        tree_leaves(case.call(tree_map(torch.Tensor.float, copied), backend="cpu")),
        strict=True,
    ):
        assert actual is None or (torch.equal(actual, other) and actual.is_contiguous())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@both_backends
@every_case
def test_half_precision(case: OperatorCase, backend: str, dtype: torch.dtype):
    """Half inputs, float32 inside: the outputs are those of the rounded inputs, rounded once."""
    values = tree_map(lambda x: x.to(dtype), case.make(9 * case.multiple))
    if "initial_state" in values:
        values["initial_state"] = tree_map(torch.Tensor.float, values["initial_state"])
    *outputs, state = case.call(values, backend=backend)
    *expected, expected_state = case.call(tree_map(torch.Tensor.double, values), backend="reference")
    for output, reference in zip(outputs, expected, strict=True):
        assert output.dtype == dtype
        error = (output.double() - reference).abs().max()
        assert error <= torch.finfo(dtype).eps * 2 * max(1, reference.abs().max()) * case.tolerance
    for part, reference in zip(tree_leaves(state), tree_leaves(expected_state), strict=True):
        if part is not None:
            assert part.dtype == torch.float32
            _compare(case, "state", part, reference)


@both_backends
@every_case
def test_nan_stays_in_its_segment(case: OperatorCase, backend: str):
    """NaN in one sequence reaches neither the outputs nor the gradients of another."""
    values = case.make(5 * case.multiple)
    clean = run(case, values, backend=backend)
    poisoned = {k: torch.cat([v[:1], v[1:] * torch.nan]) if k in case.timed else v for k, v in values.items()}
    dirty = run(case, poisoned, backend=backend)
    for name, value in dirty.items():
        if name.startswith("output") or name.removeprefix("gradient of ") in case.timed:
            assert torch.equal(value[0], clean[name][0]), name


@every_operator
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batch=st.integers(1, 3), length=st.integers(0, 40), seed=st.integers(0, 99), state=st.booleans())
def test_any_shape(case: OperatorCase, batch: int, length: int, seed: int, state: bool):
    values = case.make(length * case.multiple, batch=batch, seed=seed, state=state)
    expected = run(case, values, torch.float64, backend="reference")
    assert_close(run(case, values, backend="cpu"), expected, case)


@every_case
def test_misshapen_arguments_are_named(case: OperatorCase):
    values = tree_map(torch.Tensor.float, case.make(3 * case.multiple))
    for name, kind in case.arguments.items():
        if isinstance(kind, Timed) and name == case.main:
            wrong = values[name].flatten()
        else:
            wrong = torch.cat([values[name]] * 3, -1) if values[name].dim() else values[name].expand(3)
        with pytest.raises(KernelArgumentError):
            case.call(values | {name: wrong})
        with pytest.raises(KernelArgumentError, match=f"{name}: "):
            case.call(values | {name: values[name].long()})
    if case.state is not None:
        wrong = tree_map(lambda x: torch.cat([x, x], -1), values["initial_state"])
        with pytest.raises(KernelArgumentError, match="initial_state"):
            case.call(values | {"initial_state": wrong})


@every_operator
def test_bad_offsets_are_named(case: OperatorCase):
    if not case.packable:
        pytest.skip("not a sequence")
    values = tree_map(torch.Tensor.float, case.make(6 * case.multiple, batch=1, segments=2))
    for bounds, message in [([0, 3, 5], "cu_seqlens\\[2\\]"), ([0, 9, 6], "cu_seqlens\\[2\\]"), ([1, 3, 6], "\\[0\\]")]:
        with pytest.raises(ValueError, match=message):
            case.call(values, cu_seqlens=torch.tensor(bounds) * case.multiple)
    with pytest.raises(ValueError, match="cu_seqlens: expected int32 or int64"):
        case.call(values, cu_seqlens=torch.tensor([0.0, 6.0]))
    batched = tree_map(torch.Tensor.float, case.make(6 * case.multiple, batch=2))
    with pytest.raises(ValueError, match=r"cu_seqlens: .*batch of 1"):
        case.call(batched, cu_seqlens=torch.tensor([0, 6]) * case.multiple)


@every_operator
def test_a_named_backend_never_falls_back(case: OperatorCase, monkeypatch):
    assert set(implemented_backends()[operator_name(case)]) >= {"reference", "cpu"}
    values = case.make(2 * case.multiple)
    with pytest.raises(KernelError, match="float64"):
        case.call(values, backend="cpu")
    monkeypatch.setenv("VISIONSEQ_BACKEND", "cpu")
    with pytest.raises(KernelError, match="float64"):
        case.call(values)
    monkeypatch.setenv("VISIONSEQ_BACKEND", "nonsense")
    with pytest.raises(KernelError, match="nonsense"):
        case.call(values)
    assert case.call(values, backend="reference")[0].dtype == torch.float64


@every_operator
def test_a_second_derivative_is_refused(case: OperatorCase):
    values = tree_map(lambda x: x.float().requires_grad_(), case.make(3 * case.multiple))
    output = case.call(values, backend="cpu")[0]
    inputs = [leaf for leaf in tree_leaves(values)]
    first = torch.autograd.grad(output.square().sum(), inputs, create_graph=True, allow_unused=True)
    with pytest.raises(KernelError, match="backend='reference'"):
        sum(gradient.sum() for gradient in first if gradient is not None).backward()


def test_exact_bits_are_compared_with_themselves():
    """The comparison that the thread tests rely on does see a difference."""
    with pytest.raises(AssertionError):
        assert_equal({"x": torch.zeros(2)}, {"x": torch.tensor([0.0, 1e-30])})


def _segment(case: OperatorCase, values: dict, bounds: torch.Tensor, i: int) -> dict:
    part = {k: v[:, bounds[i] : bounds[i + 1]] if k in case.timed else v for k, v in values.items()}
    if "initial_state" in values:
        axes = iter(case.state_axes())
        part["initial_state"] = tree_map(lambda x: x.narrow(next(axes), i, 1), values["initial_state"])
    return part


def _compare(case: OperatorCase, name: str, actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert_close({name: actual}, {name: expected}, case)
