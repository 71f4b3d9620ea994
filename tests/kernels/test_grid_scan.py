"""What a grid adds to the contract: flips, both axes, border states, absent turns, cropping, the paths of the CPU."""

import pytest
import torch

from visionseq.errors import KernelArgumentError
from visionseq.kernels import grid_scan, grid_scan_step, linear_scan
from visionseq.kernels.grid_scan import cpu_adjoint, cpu_weights, layout
from visionseq.kernels.grid_scan.reference import DIRECTIONS

GATES = ("source_r", "source_d", "t_rl", "t_ru", "t_dl", "t_du", "mark_l", "mark_u")
BOTH = pytest.mark.parametrize("backend", ["reference", "cpu"])


def arguments(batch, x, y, heads, keys, values, directions=1, borders=False, seed=0) -> dict[str, torch.Tensor]:
    """Float64 arguments whose values are float32 numbers; transitions of at most 0.5."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator).double()

    nodes = (batch, x, y, heads)
    found = {"q": draw(*nodes, keys), "k": draw(*nodes, keys), "v": draw(*nodes, values), "direct": draw(*nodes)}
    found |= {name: draw(*nodes, *[4] * (directions == 4)) for name in GATES}
    found |= {name: 0.5 * torch.tanh(found[name]) for name in GATES[2:6]}
    if borders:
        found |= {
            "initial_left": draw(batch, y, heads, keys, values),
            "initial_top": draw(batch, x, heads, keys, values),
        }
    return found


def run(values: dict, dtype: torch.dtype, **options) -> dict[str, torch.Tensor]:
    """Results and gradients of a fixed functional of all results."""
    leaves = {name: None if x is None else x.to(dtype).requires_grad_() for name, x in values.items()}
    results = [result for result in grid_scan(**leaves, **options) if result is not None]
    generator = torch.Generator().manual_seed(1)
    loss = sum((x.double() * torch.randn(x.shape, generator=generator).double()).sum() for x in results)
    given = {name: leaf for name, leaf in leaves.items() if leaf is not None}
    gradients = torch.autograd.grad(loss, list(given.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(("y", "right", "bottom"), results, strict=False)) | dict(zip(given, gradients, strict=True))


def assert_agree(actual: dict, expected: dict) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].shape == value.shape, name
        if value.numel():
            tolerance = 1e-4 if name in (*GATES, "q", "k", "v", "direct", "initial_left", "initial_top") else 2e-5
            error = (actual[name].double() - value).abs().max()
            assert error <= tolerance * max(value.abs().max(), 1e-3), name


@pytest.mark.parametrize("directions", [1, 4])
@pytest.mark.parametrize(
    "size", [(2, 9, 3, 2), (1, 1, 7, 1), (1, 7, 1, 1), (1, 0, 3, 2), (1, 3, 0, 2), (0, 2, 2, 1), (1, 4, 23, 1)]
)
def test_every_shape_of_a_grid(size, directions):
    values = arguments(*size, keys=3, values=2, directions=directions, borders=directions == 1)
    expected = run(values, torch.float64, directions=directions, backend="reference")
    assert_agree(run(values, torch.float32, directions=directions, backend="cpu"), expected)


@pytest.mark.parametrize("nodes_per_channel", [0, 1000], ids=["states", "weights"])
def test_both_ways_to_four_directions_agree_with_the_reference(nodes_per_channel, monkeypatch):
    monkeypatch.setattr(layout, "NODES_PER_CHANNEL", nodes_per_channel)
    values = arguments(2, 6, 5, 2, keys=4, values=3, directions=4)
    expected = run(values, torch.float64, directions=4, backend="reference")
    assert_agree(run(values, torch.float32, directions=4, backend="cpu"), expected)


def test_the_number_of_lines_of_a_band_does_not_matter(monkeypatch):
    values = arguments(1, 11, 3, 2, keys=4, values=5, borders=True)
    whole = run(values, torch.float32, backend="cpu")
    monkeypatch.setattr(cpu_adjoint, "KEPT", 0)
    for name, value in run(values, torch.float32, backend="cpu").items():
        assert torch.equal(value, whole[name]), name


def test_the_number_of_heads_worked_on_together_does_not_matter(monkeypatch):
    values = arguments(2, 5, 4, 3, keys=4, values=5, directions=4)
    together = run(values, torch.float32, directions=4, backend="cpu")
    monkeypatch.setattr(cpu_weights, "GROUP", 1)
    for name, value in run(values, torch.float32, directions=4, backend="cpu").items():
        torch.testing.assert_close(value, together[name], rtol=1e-5, atol=1e-5)


def test_any_number_of_threads_gives_the_same_bits_at_the_size_of_a_model():
    values = arguments(1, 14, 14, 3, keys=64, values=64, directions=4)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(run(values, torch.float32, directions=4, backend="cpu"))
    finally:
        torch.set_num_threads(threads)
    for name, value in results[0].items():
        assert torch.equal(value, results[1][name]), name
        assert torch.equal(value, results[2][name]), name


@BOTH
def test_four_directions_are_flipped_scans_added_with_direct_once(backend):
    values = {k: x.float() for k, x in arguments(1, 4, 6, 2, keys=3, values=4, directions=4).items()}
    total = torch.zeros_like(values["v"])
    for r, axes in enumerate(DIRECTIONS):
        one = {k: (x[..., r] if k in GATES else x).flip(axes) for k, x in values.items() if k != "direct"}
        direct = values["direct"].flip(axes) if r == 2 else None
        total += grid_scan(**one, direct=direct, backend=backend)[0].flip(axes)
    y, right, bottom = grid_scan(**values, directions=4, backend=backend)
    torch.testing.assert_close(y, total, rtol=1e-5, atol=1e-5)
    assert right is None
    assert bottom is None


@BOTH
@pytest.mark.parametrize("directions", [1, 4])
def test_an_absent_turn_is_zero(directions, backend):
    values = {k: x.float() for k, x in arguments(1, 4, 3, 1, keys=3, values=4, directions=directions).items()}
    for turn in ("t_ru", "t_dl"):
        absent, zero = values | {turn: None}, values | {turn: torch.zeros_like(values[turn])}
        options = {"directions": directions, "backend": backend}
        assert torch.equal(grid_scan(**absent, **options)[0], grid_scan(**zero, **options)[0])


@BOTH
def test_a_grid_of_one_column_is_a_linear_scan(backend):
    values = {k: x.float() for k, x in arguments(2, 9, 1, 2, keys=3, values=4).items()}
    y, right, _ = grid_scan(**values, scale=1.0, backend=backend)
    q, k, v, source, gate, mark, direct = (
        values[name].squeeze(2) for name in ("q", "k", "v", "source_r", "t_rl", "mark_l", "direct")
    )
    write = k.unsqueeze(-1) * v.unsqueeze(-2)
    states, final = linear_scan(gate, source[..., None, None] * write, exclusive=True, backend=backend)
    expected = (
        mark.unsqueeze(-1) * (q.unsqueeze(-2) @ states).squeeze(-2) + (direct * (q * k).sum(-1)).unsqueeze(-1) * v
    )
    torch.testing.assert_close(y.squeeze(2), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(right.squeeze(1), final, rtol=1e-5, atol=1e-5)


@BOTH
@pytest.mark.parametrize("axis", [1, 2], ids=["x", "y"])
def test_a_grid_cut_in_two_is_one_pass(axis, backend):
    values = {k: x.float() for k, x in arguments(2, 7, 6, 2, keys=3, values=4, borders=True).items()}
    y, right, bottom = grid_scan(**values, backend=backend)
    left, top = values.pop("initial_left"), values.pop("initial_top")
    first = {k: x.narrow(axis, 0, 3) for k, x in values.items()}
    second = {k: x.narrow(axis, 3, x.shape[axis] - 3) for k, x in values.items()}
    if axis == 1:
        y_1, carried, bottom_1 = grid_scan(**first, initial_left=left, initial_top=top[:, :3], backend=backend)
        y_2, end, bottom_2 = grid_scan(**second, initial_left=carried, initial_top=top[:, 3:], backend=backend)
        ends = end, torch.cat([bottom_1, bottom_2], 1)
    else:
        y_1, right_1, carried = grid_scan(**first, initial_left=left[:, :3], initial_top=top, backend=backend)
        y_2, right_2, end = grid_scan(**second, initial_left=left[:, 3:], initial_top=carried, backend=backend)
        ends = torch.cat([right_1, right_2], 1), end
    for actual, expected in zip((torch.cat([y_1, y_2], axis), *ends), (y, right, bottom), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_steps_are_the_scan():
    values = {k: x.float() for k, x in arguments(2, 4, 5, 2, keys=3, values=4, borders=True).items()}
    y, right, bottom = grid_scan(**values, backend="reference")
    rights, tops = (values.pop(name).unbind(1) for name in ("initial_left", "initial_top"))
    rights = list(rights)
    for i in range(4):
        down = tops[i]
        for j in range(5):
            node = {k: x[:, i, j] for k, x in values.items()}
            output, rights[j], down = grid_scan_step(**node, left=rights[j], up=down)
            torch.testing.assert_close(output, y[:, i, j], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(down, bottom[:, i], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.stack(rights, 1), right, rtol=1e-5, atol=1e-5)


@BOTH
@pytest.mark.parametrize("directions", [1, 4])
def test_nan_in_cropped_padding_reaches_nothing(directions, backend):
    values = {k: x.float() for k, x in arguments(2, 4, 3, 2, keys=3, values=4, directions=directions).items()}
    padded = {k: torch.full((2, 6, 5, *x.shape[3:]), torch.nan) for k, x in values.items()}
    for k, x in values.items():
        padded[k][:, :4, :3] = x
    leaves = {k: x.requires_grad_() for k, x in padded.items()}
    y = grid_scan(**{k: x[:, :4, :3] for k, x in leaves.items()}, directions=directions, backend=backend)[0]
    assert torch.equal(y, grid_scan(**values, directions=directions, backend=backend)[0])
    for gradient in torch.autograd.grad(y.sum(), list(leaves.values())):
        assert gradient.isfinite().all()
        assert not gradient[:, 4:].any()
        assert not gradient[:, :, 3:].any()


@BOTH
def test_a_source_of_zero_writes_nothing(backend):
    values = {k: x.float() for k, x in arguments(1, 5, 4, 1, keys=3, values=4).items()} | {"direct": None}
    for name in ("source_r", "source_d"):
        values[name][:, 1, 2] = 0
    changed = values | {"v": values["v"].clone()}
    changed["v"][:, 1, 2] = 7
    for actual, expected in zip(
        grid_scan(**changed, backend=backend), grid_scan(**values, backend=backend), strict=True
    ):
        assert torch.equal(actual, expected)


def test_misfits_are_named():
    values = {k: x.float() for k, x in arguments(1, 3, 2, 1, keys=3, values=4, borders=True).items()}
    with pytest.raises(KernelArgumentError, match=r"directions: expected one of \[1, 4\], got 2"):
        grid_scan(**values, directions=2)
    with pytest.raises(KernelArgumentError, match=r"initial_top: expected \[1, 3, 1, 3, 4\], got \[1, 2, 1, 3, 4\]"):
        grid_scan(**values | {"initial_top": values["initial_left"]})
    with pytest.raises(KernelArgumentError, match=r"source_r: expected \[1, 3, 2, 1, 4\], got \[1, 3, 2, 1\]"):
        grid_scan(**{k: x for k, x in values.items() if not k.startswith("initial")}, directions=4)
    four = {k: x.float() for k, x in arguments(1, 3, 2, 1, keys=3, values=4, directions=4).items()}
    with pytest.raises(KernelArgumentError, match="initial_left: expected None with four directions"):
        grid_scan(**four, initial_left=values["initial_left"], directions=4)
