"""The contract of the token mixers, over all of them: what they see, how they run in pieces, packed and reversed."""

import pytest
import torch
from mixer_case import CASES, MixerCase
from random_modules import DIM, tokens
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves, tree_map

from visionseq.errors import ConfigError, KernelArgumentError

LENGTHS = [5, 0, 1, 9]  # of packed sequences
OFFSETS = torch.tensor([0, 5, 5, 6, 15])
EXACT = {"rtol": 1e-9, "atol": 1e-11}

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
streaming_case = pytest.mark.parametrize("case", [case for case in CASES if case.streams], ids=lambda case: case.name)
stepping_case = pytest.mark.parametrize(
    "case", [case for case in CASES if case.streams and case.piece == 1], ids=lambda case: case.name
)
both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])


def assert_states_equal(found, expected, **tolerance):
    assert type(found) is type(expected)
    assert_close(tree_leaves(found), tree_leaves(expected), **(tolerance or EXACT))


@every_case
@both_ways
def test_outputs_depend_on_the_declared_tokens(case: MixerCase, reverse):
    mixer, x = case.make(), tokens(1, 10)
    changed = 6
    other = x.clone()
    other[:, changed] += 1
    difference = (mixer(other, reverse=reverse)[0] - mixer(x, reverse=reverse)[0]).abs().amax((0, 2))
    touched = (difference > 1e-12).tolist()
    if mixer.direction == "both":
        assert all(touched)
    elif reverse:
        last = changed if mixer.direction == "past" else _chunk_end_reversed(changed, case.piece, 10)
        assert touched == [t <= last for t in range(10)]
    else:
        first = changed if mixer.direction == "past" else changed // case.piece * case.piece
        assert touched == [t >= first for t in range(10)]


def _chunk_end_reversed(token: int, chunk: int, length: int) -> int:
    """The last token of a token's chunk where chunks are counted from the end."""
    return length - 1 - (length - 1 - token) // chunk * chunk


@every_case
def test_reverse_is_flip(case: MixerCase):
    mixer, x = case.make(), tokens(2, 11)
    y, state = mixer(x, reverse=True)
    flipped, expected = mixer(x.flip(1))
    assert_close(y, flipped.flip(1), **EXACT)
    assert_states_equal(state, expected)


@every_case
@both_ways
def test_packed_is_separate(case: MixerCase, reverse):
    mixer, x = case.make(), tokens(1, sum(LENGTHS))
    y, state = mixer(x, cu_seqlens=OFFSETS, reverse=reverse)
    for i, (start, stop) in enumerate(zip(OFFSETS[:-1].tolist(), OFFSETS[1:].tolist(), strict=True)):
        own_y, own_state = mixer(x[:, start:stop], reverse=reverse)
        assert_close(y[:, start:stop], own_y, **EXACT)
        if state is not None and not mixer.state_grows:
            assert_states_equal(tree_map(lambda part, i=i: part[i : i + 1], state), own_state)


@streaming_case
@both_ways
def test_packed_sequences_go_on_from_their_states(case: MixerCase, reverse):
    mixer = case.make()
    parts = [tokens(1, case.piece * length, seed=seed) for seed, length in enumerate([3, 0, 2])]
    rests = [tokens(1, length, seed=seed + 10) for seed, length in enumerate([4, 7, 1])]
    _, state = mixer(torch.cat(parts, 1), cu_seqlens=_offsets(parts), reverse=reverse)
    y, state = mixer(torch.cat(rests, 1), state, cu_seqlens=_offsets(rests), reverse=reverse)
    for i, (part, rest, own_y) in enumerate(zip(parts, rests, y.split([4, 7, 1], 1), strict=True)):
        whole = torch.cat([rest, part] if reverse else [part, rest], 1)
        expected, expected_state = mixer(whole, reverse=reverse)
        length = rest.shape[1]
        assert_close(own_y, expected[:, :length] if reverse else expected[:, -length:], **EXACT)
        if not mixer.state_grows:
            assert_states_equal(tree_map(lambda leaf, i=i: leaf[i : i + 1], state), expected_state)


def _offsets(parts):
    return torch.tensor([0, *(part.shape[1] for part in parts)]).cumsum(0)


@streaming_case
@both_ways
def test_pieces_with_carried_state_are_one_pass(case: MixerCase, reverse):
    mixer = case.make()
    sizes = [case.piece * n for n in (1, 0, 2, 3)] + [5]
    x = tokens(2, sum(sizes))
    expected, expected_state = mixer(x, reverse=reverse)
    read = x.flip(1) if reverse else x
    state, outputs = None, []
    for piece in read.split(sizes, 1):
        y, state = mixer(piece.flip(1) if reverse else piece, state, reverse=reverse)
        outputs.append(y.flip(1) if reverse else y)
    streamed = torch.cat(outputs, 1)
    assert_close(streamed.flip(1) if reverse else streamed, expected, **EXACT)
    assert_states_equal(state, expected_state)


@stepping_case
def test_steps_are_one_pass(case: MixerCase):
    mixer, x = case.make(), tokens(2, 7)
    expected, expected_state = mixer(x)
    state = None
    for t in range(7):
        y, state = mixer.step(x[:, t], state)
        assert_close(y, expected[:, t], **EXACT)
    assert_states_equal(state, expected_state)


@stepping_case
def test_steps_and_passes_alternate(case: MixerCase):
    mixer, x = case.make(), tokens(2, 9)
    expected, _ = mixer(x)
    first, state = mixer(x[:, :3])
    second, state = mixer.step(x[:, 3], state)
    third, _ = mixer(x[:, 4:], state)
    assert_close(torch.cat([first, second.unsqueeze(1), third], 1), expected, **EXACT)


@streaming_case
def test_size_of_the_state(case: MixerCase):
    mixer = case.make()
    sizes = [sum(leaf.numel() for leaf in tree_leaves(mixer(tokens(2, length))[1])) for length in (4, 8, 20)]
    assert (sizes[0] < sizes[1] < sizes[2]) if mixer.state_grows else (len(set(sizes)) == 1)


@pytest.mark.parametrize("case", [case for case in CASES if not case.streams], ids=lambda case: case.name)
def test_mixers_that_cannot_stream_say_so(case: MixerCase):
    mixer = case.make()
    with pytest.raises(ConfigError, match="cannot"):
        mixer(tokens(1, 4), state=torch.zeros(1))
    with pytest.raises(ConfigError, match="cannot take single tokens"):
        mixer.step(tokens(1))
    assert mixer(tokens(1, 4))[1] is None


def test_chunks_take_no_single_tokens():
    case = next(case for case in CASES if case.name == "retnet-chunk")
    with pytest.raises(ConfigError, match="whole chunk"):
        case.make().step(tokens(1))


@every_case
def test_gradients_reach_everything(case: MixerCase):
    mixer, x = case.make(), tokens(1, 10).requires_grad_()
    leaves = []
    if case.streams:
        _, state = mixer(tokens(1, case.piece * 3, seed=5))
        state = tree_map(lambda leaf: leaf.detach().requires_grad_(leaf.is_floating_point()), state)
        leaves = [leaf for leaf in tree_leaves(state) if leaf.requires_grad]
        y, _ = mixer(x, state)
    else:
        y, _ = mixer(x)
    y.square().sum().backward()
    for name, leaf in [*mixer.named_parameters(), ("x", x), *((f"state {i}", s) for i, s in enumerate(leaves))]:
        if name not in UNUSED_AFTER_START.get(case.name, ()) or not case.streams:
            assert leaf.grad is not None, f"{name} has no gradient"
            assert leaf.grad.isfinite().all(), f"the gradient of {name} is not finite"
            assert leaf.grad.abs().max() > 0, f"the gradient of {name} is zero"


# the learned initial state has no part in a pass that begins with another
UNUSED_AFTER_START = {"ttt": ("W1", "b1"), "ttt-gated": ("W1", "b1", "state 2")}


@every_case
def test_gradient_passes_through_carried_states(case: MixerCase):
    if not case.streams:
        pytest.skip("no state")
    mixer, x = case.make(), tokens(1, case.piece * 3 + 4)
    first = x[:, : case.piece * 3].clone().requires_grad_()
    whole = x.clone().requires_grad_()
    _, state = mixer(first)
    y, _ = mixer(x[:, case.piece * 3 :], state)
    (expected,) = torch.autograd.grad(mixer(whole)[0][:, case.piece * 3 :].square().sum(), whole)
    (found,) = torch.autograd.grad(y.square().sum(), first)
    assert_close(found, expected[:, : case.piece * 3], **EXACT)


@every_case
def test_float32_agrees_with_float64(case: MixerCase):
    found, expected = (_pass_and_gradients(case, dtype) for dtype in (torch.float32, torch.float64))
    for name, value in expected.items():
        assert found[name].dtype == torch.float32
        error = (found[name].double() - value).abs().max()
        assert error <= 2e-4 * max(1.0, value.abs().max()), f"{name}: {error}"


def _pass_and_gradients(case: MixerCase, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    mixer, x = case.make(dtype), tokens(1, sum(LENGTHS)).to(dtype).requires_grad_()
    y, _ = mixer(x, cu_seqlens=OFFSETS)
    y.square().mean().backward()
    return {"y": y, "x": x.grad, **{name: parameter.grad for name, parameter in mixer.named_parameters()}}


@every_case
@both_ways
def test_trains_under_autocast(case: MixerCase, reverse):
    """In bfloat16 the gradients stay close to those in float32: whole batches, packed sequences, and step by step."""
    mixer, x = case.make(torch.float32), tokens(1, sum(LENGTHS), dtype=torch.float32)
    for options in ({}, {"cu_seqlens": OFFSETS}):
        expected = _gradients(mixer, lambda options=options: mixer(x, reverse=reverse, **options)[0])
        with torch.autocast("cpu", torch.bfloat16):
            actual = _gradients(mixer, lambda options=options: mixer(x, reverse=reverse, **options)[0])
        _assert_same_direction(actual, expected)


@stepping_case
def test_steps_train_under_autocast(case: MixerCase):
    mixer, x = case.make(torch.float32), tokens(2, 3, dtype=torch.float32)

    def two_steps() -> torch.Tensor:
        first, state = mixer.step(x[:, 0])
        second, _ = mixer.step(x[:, 1], state)
        return torch.stack([first, second])

    expected = _gradients(mixer, two_steps)
    with torch.autocast("cpu", torch.bfloat16):
        _assert_same_direction(_gradients(mixer, two_steps), expected)


def _gradients(mixer, output) -> dict[str, torch.Tensor]:
    parameters = dict(mixer.named_parameters())
    loss = output().float().square().mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(parameters, gradients, strict=True))


def _assert_same_direction(actual, expected) -> None:
    flat, other = (torch.cat([g.flatten() for g in gradients.values()]) for gradients in (actual, expected))
    assert flat.isfinite().all()
    assert torch.cosine_similarity(flat, other, 0) > 0.95  # a norm after few tokens amplifies the rounding


@streaming_case
def test_states_own_their_memory(case: MixerCase):
    """A view would keep the tokens alive that the state has read, and would be written to a file with them."""
    mixer, x = case.make(torch.float32), tokens(2, 8, dtype=torch.float32)
    states = [mixer(x)[1], mixer(x, reverse=True)[1], mixer(x[:1], cu_seqlens=torch.tensor([0, 4, 8]))[1]]
    states.append(mixer(x, mixer(x)[1])[1])
    if case.piece == 1:
        states.append(mixer.step(x[:, 0])[1])
        states.append(mixer.step(x[:, 1], states[-1])[1])
    for state in states:
        for name, part in _named_parts(state):
            assert part.untyped_storage().nbytes() == part.numel() * part.element_size(), name
            assert part.untyped_storage().data_ptr() != x.untyped_storage().data_ptr(), name


@streaming_case
def test_states_are_saved_and_loaded_without_pickled_code(case: MixerCase, tmp_path):
    mixer, x = case.make(), tokens(2, 2 * case.piece + 1)
    _, state = mixer(x[:, : 2 * case.piece])
    torch.save(state, tmp_path / "state.pt")
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    assert_states_equal(loaded, state)
    assert torch.equal(mixer(x, loaded)[0], mixer(x, state)[0])


@streaming_case
def test_a_state_of_another_batch_is_named(case: MixerCase):
    mixer, x = case.make(), tokens(3, case.piece * 2)
    _, state = mixer(x)
    with pytest.raises(KernelArgumentError, match=r"^state\S*: expected 2 sequences, got 3"):
        mixer(x[:2], state)
    with pytest.raises(KernelArgumentError, match=r"^state\S*: expected 4 sequences, got 3"):
        mixer(tokens(1, sum(LENGTHS)), state, cu_seqlens=OFFSETS)
    if case.piece == 1:
        with pytest.raises(KernelArgumentError, match=r"^state\S*: expected 2 sequences, got 3"):
            mixer.step(x[:2, 0], state)


@every_case
def test_autocast_keeps_states_in_float32(case: MixerCase):
    mixer, x = case.make(torch.float32), tokens(2, 10, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = mixer(x)
    assert_close(y.float(), mixer(x)[0], rtol=0.1, atol=0.1)
    for name, leaf in _named_parts(state):
        if name not in INPUTS_KEPT and leaf.is_floating_point():
            assert leaf.dtype == torch.float32, name


INPUTS_KEPT = ("history", "tokens", "k", "v")  # parts of states that hold what came in, in the dtype in which it came


def _named_parts(state) -> list[tuple[str, torch.Tensor]]:
    if state is None or isinstance(state, torch.Tensor):
        return [] if state is None else [("scan", state)]
    return list(state._asdict().items())


@stepping_case
def test_bfloat16_modules_run_and_step(case: MixerCase):
    mixer, x = case.make(torch.bfloat16), tokens(2, 6).bfloat16()
    expected, _ = case.make(torch.float32)(x.float())
    y, _ = mixer(x)
    assert y.dtype == torch.bfloat16
    assert_close(y.float(), expected, rtol=0.1, atol=0.1)
    first, state = mixer.step(x[:, 0])
    second, _ = mixer.step(x[:, 1], state)
    assert first.dtype == torch.bfloat16
    assert_close(torch.stack([first, second], 1).float(), expected[:, :2], rtol=0.1, atol=0.1)


@every_case
def test_no_tokens(case: MixerCase):
    mixer = case.make()
    y, state = mixer(tokens(2, 0))
    assert y.shape == (2, 0, DIM)
    assert (state is not None) == case.streams
    y, _ = mixer(tokens(1, 0), cu_seqlens=torch.tensor([0]))
    assert y.shape == (1, 0, DIM)


@every_case
def test_unfit_offsets_are_named(case: MixerCase):
    mixer = case.make()
    with pytest.raises(KernelArgumentError, match=r"cu_seqlens\[2\]"):
        mixer(tokens(1, 5), cu_seqlens=torch.tensor([0, 2, 4]))
    with pytest.raises(KernelArgumentError, match="batch of 1"):
        mixer(tokens(2, 5), cu_seqlens=torch.tensor([0, 5]))


@every_case
def test_parameters_have_storages_of_their_own(case: MixerCase):
    pointers = [parameter.data_ptr() for parameter in case.build().parameters()]
    assert len(set(pointers)) == len(pointers)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=[] if case.name == "mamba" else pytest.mark.slow) for case in CASES],
)
def test_traces_as_one_graph(case: MixerCase):
    mixer, x = case.make(torch.float32), tokens(1, 15, dtype=torch.float32)
    compiled = torch.compile(mixer, backend="eager", fullgraph=True, dynamic=True)
    assert_close(compiled(x)[0], mixer(x)[0])
    if "attention" not in case.name:  # its packed form is a loop over sequences
        assert_close(compiled(x, cu_seqlens=OFFSETS)[0], mixer(x, cu_seqlens=OFFSETS)[0])
