"""The network: one pass and image by image, causality, sizes, what it refuses."""

import pytest
import torch
from tiny_arflow import CONFIG, tiny

from visionseq.arflow import ARFlow
from visionseq.arflow.attention import HybridAttention
from visionseq.arflow.presets import PRESETS
from visionseq.errors import ConfigError
from visionseq.kernels import chunk_gated_attention

PARAMETERS = {
    "S/2": 34_742_048,
    "B/2": 137_664_032,
    "L/2": 483_563_552,
    "XL/2": 712_740_128,
    "S/4": 34_723_712,
    "S/8": 34_926_848,
    "B/4": 137_627_264,
    "B/8": 138_033_152,
    "L/4": 483_514_496,
    "L/8": 484_055_552,
    "XL/4": 712_620_416,
    "XL/8": 713_229_056,
}


def sequences(images: int = 5, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, images, 1, 4, 4, generator=generator)
    return x, torch.rand(rows, images, generator=generator).sort(1).values, torch.arange(rows)


@pytest.mark.parametrize("heads", [1, 2, 3, 8])
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_sequence_may_be_cut_anywhere(heads, cut):
    model, (x, t, y) = tiny(num_heads=heads), sequences()
    whole, last = model(x, t, y)
    first, memories = model(x[:, :cut], t[:, :cut], y)
    second, memories = model(x[:, cut:], t[:, cut:], y, memories)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, atol=5e-5, rtol=0)
    for memory, expected in zip(memories, last, strict=True):
        torch.testing.assert_close(memory, expected, atol=5e-5, rtol=0)


def test_an_image_sees_those_before_it_and_none_after_it():
    model, (x, t, y) = tiny(), sequences()
    before, _ = model(x, t, y)
    x[:, 2] += 1
    after, _ = model(x, t, y)
    assert after[:, :2].equal(before[:, :2])
    assert ((after - before)[:, 2:].abs().amax((0, 2, 3, 4)) > 1e-4).all()


def test_rows_do_not_mix():
    model, (x, t, y) = tiny(), sequences(rows=3)
    velocity, _ = model(x, t, y)
    alone, _ = model(x[1:2], t[1:2], y[1:2])
    torch.testing.assert_close(alone, velocity[1:2], atol=1e-5, rtol=0)


def test_the_example_of_the_recurrence_by_hand():
    q, k, v, g = (
        torch.tensor(values, dtype=torch.float64).view(1, 4, 1, 1)
        for values in ([1, 2, 1, -1], [0.5, -0.5, 1, 2], [1, 3, -1, 2], [-0.1, -0.3, -0.2, -0.4])
    )
    o, memory = chunk_gated_attention(q, k, v, g[..., 0], chunk_size=2)
    expected = torch.tensor([1.537883, 1.238406, 0.374445, 0.355636], dtype=torch.float64)
    torch.testing.assert_close(o.flatten(), expected, atol=1e-6, rtol=0)
    assert memory.item() == pytest.approx(2.259182, abs=1e-6)


def test_queries_are_normalised_over_all_heads_together():
    """With a norm of each head, the softmax would not change where one head's queries grow."""
    attention = HybridAttention(8, 2)
    x, c = torch.randn(1, 1, 6, 8, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 1, 1, 8)
    attention.out_proj.weight.data.copy_(torch.eye(8))
    before, _ = attention(x, c)
    attention.q_proj.weight.data[:4] *= 10
    after, _ = attention(x, c)
    assert (after - before)[..., 4:].abs().max() > 1e-3


def test_a_new_network_gives_zero():
    velocity, _ = ARFlow(**CONFIG)(*sequences())
    assert not velocity.any()


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_sizes_have_the_published_numbers_of_parameters(name):
    with torch.device("meta"):
        model = ARFlow(**PRESETS[f"{name}-256"])
    assert sum(tensor.numel() for tensor in model.state_dict().values()) == PARAMETERS[name]


def test_positions_are_stored_and_not_trained():
    model = tiny()
    assert "pos_embed" in model.state_dict()
    assert "pos_embed" not in dict(model.named_parameters())


def test_the_outputs_of_sigma_are_cut_off():
    velocity, _ = tiny(learn_sigma=True)(*sequences())
    assert velocity.shape == (2, 5, 1, 4, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(dtype):
    model, (x, t, y) = tiny(), sequences()
    expected, _ = model(x, t, y)
    velocity, memories = model.to(dtype)(x.to(dtype), t, y)
    assert velocity.dtype == dtype
    assert memories[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert (velocity.float() - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_autocast_keeps_the_memories_in_float32():
    model, (x, t, y) = tiny(), sequences()
    expected, _ = model(x, t, y)
    with torch.autocast("cpu", torch.bfloat16):
        velocity, memories = model(x, t, y)
    assert memories[0].dtype == torch.float32
    assert (velocity.float() - expected).abs().mean() < 0.03 * expected.abs().mean()


def test_it_is_saved_and_loaded_with_its_path(tmp_path):
    model = tiny(path="GVP")
    model.save_pretrained(tmp_path)
    loaded = ARFlow.from_pretrained(tmp_path)
    assert loaded.config == model.config
    assert loaded(*sequences())[0].equal(model(*sequences())[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patch_size": 3}, "input_size 4, patch_size 3"),
        ({"num_heads": 5}, "24 channels do not divide into 5 heads"),
        ({"path": "VE"}, "path 'VE', expected one of Linear, GVP, VP"),
        ({"class_dropout_prob": 1.5}, r"class_dropout_prob 1\.5"),
        ({"hidden_size": 30, "num_heads": 3}, "multiple of 4"),
    ],
)
def test_values_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        ARFlow(**{**CONFIG, **wrong})
