"""The operators as citizens of torch: opcheck, torch.compile, export, checkpointing, FLOPs, threads, autocast."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from case_list import CASES, ONE_PER_OPERATOR
from code_generation import BACKEND
from comparing import assert_close, assert_equal, run
from operator_case import OperatorCase
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_operator = pytest.mark.parametrize("case", ONE_PER_OPERATOR, ids=lambda case: case.name)
has_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="torch.compile needs a C++ compiler"
)


class Calls(TorchDispatchMode):
    """Records the calls of visionseq's registered operators."""

    def __init__(self):
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "visionseq":
            self.calls.append((function, args))
        return function(*args, **(kwargs or {}))


def leaves(case: OperatorCase, length: int, **options):
    return tree_map(lambda x: x.float().requires_grad_(), case.make(length * case.multiple, **options))


@every_case
def test_opcheck(case: OperatorCase):
    with Calls() as recorded:
        case.call(tree_map(torch.Tensor.float, case.make(5 * case.multiple)), backend="cpu")
    assert recorded.calls, "no registered operator was called"
    for function, args in recorded.calls:
        arguments = [x.detach().requires_grad_(x.is_floating_point()) if torch.is_tensor(x) else x for x in args]
        assert set(torch.library.opcheck(function, tuple(arguments)).values()) == {"SUCCESS"}


@has_compiler
@every_operator
def test_compiles_into_one_graph_for_any_size(case: OperatorCase):
    def loss(values):
        return sum(part.sin().sum() for part in tree_leaves(case.call(values)) if part is not None)

    torch.compiler.reset()  # the operators share this function's code, and its limit of recompilations
    compiled = torch.compile(loss, backend=BACKEND, fullgraph=True, dynamic=True)
    for length in (5, 8):
        values = leaves(case, length)
        inputs = tree_leaves(values)
        expected = torch.autograd.grad(loss(values), inputs, allow_unused=True)
        for actual, other in zip(
            torch.autograd.grad(compiled(values), inputs, allow_unused=True), expected, strict=True
        ):
            torch.testing.assert_close(actual, other, rtol=1e-4, atol=1e-5)


@every_operator
def test_exports(case: OperatorCase):
    class Module(torch.nn.Module):
        def forward(self, values):
            return [part for part in tree_leaves(case.call(values)) if part is not None]

    values = tree_map(torch.Tensor.float, case.make(5 * case.multiple))
    exported = torch.export.export(Module(), (values,)).module()
    for actual, expected in zip(exported(values), Module()(values), strict=True):
        torch.testing.assert_close(actual, expected)  # the module itself may take the loop for a call so small


@every_operator
def test_checkpointing_gives_the_same_bits(case: OperatorCase):
    values = leaves(case, 6)
    inputs = tree_leaves(values)

    def loss(*_):
        return sum(part.sin().sum() for part in tree_leaves(case.call(values)) if part is not None)

    plain = torch.autograd.grad(loss(), inputs, allow_unused=True)
    again = torch.autograd.grad(checkpoint(loss, *inputs, use_reentrant=False), inputs, allow_unused=True)
    for one, other in zip(plain, again, strict=True):
        assert one is other is None or torch.equal(one, other)


@every_operator
def test_flops_are_counted(case: OperatorCase):
    values = leaves(case, 6)
    with FlopCounterMode(display=False) as forward:
        output = case.call(values)[0]
    with FlopCounterMode(display=False) as backward:
        output.sum().backward()
    assert forward.get_total_flops() > 0
    assert backward.get_total_flops() > forward.get_total_flops()


@every_case
def test_two_threads_give_the_bits_of_one(case: OperatorCase):
    values = case.make(70 - 70 % case.multiple, batch=3)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(run(case, values, backend="cpu"))
    finally:
        torch.set_num_threads(threads)
    assert_equal(results[0], results[1])
    assert_equal(results[0], results[2])


@every_operator
def test_concurrent_calls(case: OperatorCase):
    """Several Python threads, each with arguments of its own."""
    values = [case.make(8 * case.multiple, seed=seed) for seed in range(8)]
    expected = [run(case, value, backend="cpu") for value in values]
    with ThreadPoolExecutor(4) as pool:
        for actual, other in zip(
            pool.map(lambda value: run(case, value, backend="cpu"), values), expected, strict=True
        ):
            assert_equal(actual, other)


class InAWorker(torch.utils.data.Dataset):
    """Calls an operator in the worker process; sample i is its first output."""

    def __init__(self, case: OperatorCase, values: list[dict]):
        self.case, self.values = case, values

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: int) -> torch.Tensor:
        torch.set_num_threads(2)
        return self.case.call(self.values[i], backend="cpu")[0]


@every_operator
def test_forked_workers(case: OperatorCase):
    """A worker forked after the threads of the parent have been started computes the same."""
    values = [tree_map(torch.Tensor.float, case.make(4 * case.multiple, seed=seed)) for seed in range(4)]
    expected = torch.stack([case.call(value, backend="cpu")[0] for value in values])
    loader = DataLoader(
        InAWorker(case, values), batch_size=4, num_workers=1, multiprocessing_context="fork", timeout=60
    )
    assert torch.equal(next(iter(loader)), expected)


@every_operator
def test_mixed_dtypes_under_autocast(case: OperatorCase):
    """Autocast changes nothing: an operator takes what it is given and keeps its states in float32."""
    values = case.make(5 * case.multiple)
    expected = run(case, values, backend="cpu")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = run(case, values, backend="cpu")
    assert_equal(actual, expected)
    half = tree_map(torch.Tensor.float, values) | {case.main: values[case.main].bfloat16()}
    rounded = half | {case.main: half[case.main].float()}
    mixed, pure = case.call(half, backend="cpu"), case.call(rounded, backend="cpu")
    assert mixed[0].dtype == torch.bfloat16
    torch.testing.assert_close(mixed[0].float(), pure[0], rtol=1e-2, atol=1e-2)
    assert_close({"output 0": mixed[0].float()}, {"output 0": pure[0].bfloat16().float()}, case, scale=200)
