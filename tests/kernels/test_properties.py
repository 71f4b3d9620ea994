"""What holds for every operator whatever its arguments look like in memory and whatever torch makes of a call."""

import pytest
import torch
from case_list import CASES
from comparing import GRADIENT, assert_close, assert_equal, named_leaves, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from operator_case import OperatorCase
from properties import LAYOUTS, check_layouts, check_subsets_of_cotangents, random_cotangents
from torch.autograd import forward_ad
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from visionseq.errors import KernelError
from visionseq.kernels.serving import LOOP_TOKENS

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
both_backends = pytest.mark.parametrize("backend", ["reference", "cpu"])


@both_backends
@every_case
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_layout(case: OperatorCase, backend: str, data: st.DataObject):
    layouts = st.tuples(st.sampled_from(LAYOUTS), st.integers(0, 4))
    check_layouts(case, backend, 5, lambda: data.draw(layouts))


@every_case
def test_every_argument_permuted(case: OperatorCase):
    check_layouts(case, "cpu", 5, lambda: ("permuted", 0))


@both_backends
@every_case
def test_every_subset_of_the_results_carries_the_loss(case: OperatorCase, backend: str):
    check_subsets_of_cotangents(case, backend, 5)


@both_backends
@every_case
def test_autocast_changes_nothing(case: OperatorCase, backend: str):
    """An operator takes what it is given and keeps its states in float32, forward, backward and step by step."""
    values = case.make(5 * case.multiple)
    expected = run(case, values, backend=backend)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = run(case, values, backend=backend)
    if backend == "reference":  # its gradients are torch's own, taken in half precision where the backward is inside
        results = [name for name in actual if not name.startswith("gradient")]
        assert_equal({name: actual[name] for name in results}, {name: expected[name] for name in results})
        assert_close(actual, expected, case, scale=300)
    else:
        assert_equal(actual, expected)
    if case.step is not None:
        single = tree_map(torch.Tensor.float, values)
        first = {name: single[name][:, 0] for name in case.timed}
        fixed = {name: single[name] for name in case.arguments if name not in case.timed}
        plain = case.step(dict(first), fixed, single["initial_state"])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            tree_map(torch.testing.assert_close, case.step(dict(first), fixed, single["initial_state"]), plain)


@every_case
def test_states_own_their_memory(case: OperatorCase):
    values = tree_map(torch.Tensor.float, case.make(9 * case.multiple))
    for backend in ("reference", "cpu"):
        for part in tree_leaves(case.call(values, backend=backend)[-1]):
            if part is not None:
                assert part.untyped_storage().nbytes() == part.numel() * part.element_size(), backend


@every_case
def test_forward_mode_is_the_transpose_of_reverse_mode(case: OperatorCase):
    """<J t, c> = <t, J^T c>, for dual tensors and for torch.func.jvp."""
    function, inputs = _as_function(case, torch.float64)
    tangents = [torch.randn(x.shape, generator=torch.Generator().manual_seed(i)).double() for i, x in enumerate(inputs)]
    cotangents = random_cotangents(case, case.make(3 * case.multiple))
    leaves = [x.requires_grad_() for x in inputs]
    gradients = torch.autograd.grad(function(*leaves), leaves, cotangents, allow_unused=True)
    expected = sum((g * t).sum() for g, t in zip(gradients, tangents, strict=True) if g is not None)
    scale = sum((g * t).abs().sum() for g, t in zip(gradients, tangents, strict=True) if g is not None)

    function, inputs = _as_function(case, torch.float32)
    single = [t.float() for t in tangents]
    _, along = torch.func.jvp(function, tuple(inputs), tuple(single))
    assert abs(_inner(along, cotangents) - expected) <= GRADIENT * case.tolerance * scale
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, t) for x, t in zip(inputs, single, strict=True)]
        along = [forward_ad.unpack_dual(x).tangent for x in function(*duals)]
    assert abs(_inner(along, cotangents) - expected) <= GRADIENT * case.tolerance * scale


@every_case
def test_func_grad_and_vmap(case: OperatorCase):
    function, inputs = _as_function(case, torch.float32)

    def loss(*arguments: torch.Tensor) -> torch.Tensor:
        return sum(x.sin().sum() for x in function(*arguments))

    leaves = [x.clone().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(loss(*leaves), leaves, allow_unused=True, materialize_grads=True)
    actual = torch.func.grad(loss, argnums=tuple(range(len(inputs))))(*inputs)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    pairs = [torch.stack([x, x.flip(0)]) for x in inputs]
    for many, *each in zip(torch.func.vmap(function)(*pairs), function(*inputs), strict=True):
        torch.testing.assert_close(many[0], each[0], rtol=1e-4, atol=1e-4)


@every_case
def test_a_named_backend_refuses_transforms(case: OperatorCase):
    function, inputs = _as_function(case, torch.float32, backend="cpu")
    with pytest.raises(KernelError, match="backend='reference'"):
        torch.func.jvp(function, tuple(inputs), tuple(torch.ones_like(x) for x in inputs))
    with forward_ad.dual_level(), pytest.raises(KernelError, match="backend='reference'"):
        function(*[forward_ad.make_dual(x, torch.ones_like(x)) for x in inputs])
    with pytest.raises(KernelError, match="backend='reference'"):
        torch.func.grad(lambda *arguments: function(*arguments)[0].sum())(*inputs)


@pytest.mark.parametrize("name", LOOP_TOKENS)
def test_auto_takes_the_loop_for_tiny_calls_alone(name: str):
    case = next(case for case in CASES if case.name.startswith(name) and case.multiple == 1)
    for length, backend in ((LOOP_TOKENS[name], "reference"), (LOOP_TOKENS[name] + 1, "cpu")):
        values = tree_map(lambda x: x.float().requires_grad_(), case.make(length))
        assert _kind_of_graph(case.call(values)) == _kind_of_graph(case.call(values, backend=backend))
    assert _kind_of_graph(case.call(values, backend="cpu")) != _kind_of_graph(case.call(values, backend="reference"))


def _kind_of_graph(results) -> set[str]:
    """The names of the functions that the results' gradients pass first."""
    return {x.grad_fn.next_functions[0][0].name() if "View" in x.grad_fn.name() else x.grad_fn.name() for x in results}


def _as_function(case: OperatorCase, dtype: torch.dtype, **options):
    """The operator as a function of tensors alone, and its arguments."""
    leaves, structure = tree_flatten(tree_map(lambda x: x.to(dtype), case.make(3 * case.multiple)))

    def function(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        results = case.call(tree_unflatten(list(inputs), structure), **options)
        return tuple(x for x in tree_leaves(results) if x is not None)

    return function, leaves


def _inner(tensors, others) -> torch.Tensor:
    return sum((x.double() * y).sum() for x, y in zip(tensors, others, strict=True) if x is not None)


def test_the_names_of_arguments_are_unique():
    for case in CASES:
        assert len(named_leaves(case.make(case.multiple))) == len(tree_leaves(case.make(case.multiple)))
