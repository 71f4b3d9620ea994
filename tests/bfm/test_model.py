"""The network beyond the golden vectors: segments, gradients, initialisation, half precision, errors."""

import pytest
import torch
from tiny import NETWORK, tiny_model

from visionseq.bfm.model import BFM, build_bfm
from visionseq.errors import ConfigError


def inputs(n: int = 4):
    generator = torch.Generator().manual_seed(2)
    x, t = torch.randn(n, 1, 4, 4, generator=generator), torch.rand(n, generator=generator)
    return x, t, torch.arange(n) % 3


def test_rows_of_a_batch_get_the_blocks_of_their_segments():
    model, (x, t, y) = tiny_model(), inputs()
    v, _ = model.forward_train(x, t, y, [2, 1, 1])
    for row, segment in enumerate((0, 0, 1, 2)):
        alone = model(x[row : row + 1], t[row : row + 1], y[row : row + 1], segment)
        torch.testing.assert_close(v[row : row + 1], alone, atol=1e-5, rtol=1e-4)


def test_blocks_of_a_segment_without_rows_get_no_gradient():
    model, (x, t, y) = tiny_model(), inputs()
    model.forward_train(x, t, y, [4, 0, 0])[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.velocity_blocks[0].parameters())
    assert all(parameter.grad is None for stack in model.velocity_blocks[1:] for parameter in stack.parameters())


def test_a_new_network_predicts_no_velocity_and_its_frn_is_not_zero():
    torch.manual_seed(0)
    model, (x, t, y) = BFM(**NETWORK, finetune=True), inputs()
    assert not model(x, t, y, 1).any()
    assert model.residual(x, model.condition(t, y)).any()


def test_a_dropped_label_is_the_null_label_and_modes_change_nothing():
    model, (x, t, y) = tiny_model(), inputs()
    drop = torch.tensor([True, False, False, True])
    dropped = model.condition(t, y, drop)
    torch.testing.assert_close(dropped, model.condition(t, torch.where(drop, 3, y)))
    assert model.train()(x, t, y, 1).equal(model.eval()(x, t, y, 1))


def test_positions_stay_exact_in_half_precision():
    model = tiny_model()
    angles = model.angles.clone()
    x, t, y = inputs()
    half = model.to(torch.bfloat16)
    assert half.angles.equal(angles)
    assert half(x.bfloat16(), t, y, 0).dtype == torch.bfloat16


def test_autocast_keeps_modulations_and_residuals_in_float32():
    model, (x, t, y) = tiny_model(), inputs()
    exact = model(x, t, y, 2)
    with torch.autocast("cpu", torch.bfloat16):
        c = model.condition(t, y)
        f = model.features(x, c)
        v = model.velocity(x, c, f, 2)
    assert c.dtype == f.dtype == torch.float32
    assert (v.float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_variants_of_the_blocks_have_the_official_names():
    names = set(tiny_model(use_swiglu=True, norm_type="w_layernorm", q_norm="layernorm", k_norm=None).state_dict())
    assert "representation_blocks.1.mlp.fc1_g.weight" in names
    assert "velocity_blocks.2.0.norm2.weight" in names
    assert "final_layer.norm_final.weight" in names
    assert not any("q_norm" in name or "k_norm" in name for name in names)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 3}, "patch_size 3 does not divide context_size 4"),
        ({"hidden_size": 20}, "multiple of 4"),
        ({"segments": 0}, "segments 0"),
        ({"adaln_type": "normal"}, "adaln_type 'normal', expected lora"),
        ({"norm_type": "batchnorm"}, "norm_type 'batchnorm'"),
        ({"q_norm": "l2"}, "q_norm 'l2'"),
        ({"finetune": True, "frn_depth": 0}, "frn_depth 0"),
        ({"class_dropout_prob": 1.0}, "class_dropout_prob 1.0"),
        ({"width": 3}, "width"),
    ],
)
def test_arguments_that_make_no_network(options, message):
    with pytest.raises(ConfigError, match=message):
        build_bfm({**NETWORK, **options})


def test_calls_that_the_network_cannot_answer():
    model, (x, t, y) = tiny_model(class_dropout_prob=0.0), inputs()
    with pytest.raises(ConfigError, match="class_dropout_prob above 0"):
        model.no_class(y)
    with pytest.raises(ConfigError, match="no FRN"):
        model.residual(x, model.condition(t, y))
    with pytest.raises(ConfigError, match=r"split_sizes \[4\], expected 3 numbers of 4 rows"):
        model.forward_train(x, t, y, [4])
