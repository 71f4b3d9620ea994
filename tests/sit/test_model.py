"""The network: sizes of the published models, its start, labels, dtypes, files."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from visionseq.errors import ConfigError
from visionseq.sit import PRESETS, SiT
from visionseq.zoo.loading import load

TINY = {"input_size": 4, "in_channels": 1, "hidden_size": 8, "depth": 2, "num_heads": 2, "num_classes": 3}
COUNTS = {  # with the fixed positions
    "SiT-S/2": (32_963_360, 32_865_056),
    "SiT-B/2": (130_512_416, 130_315_808),
    "SiT-L/2": (458_102_816, 457_840_672),
    "SiT-XL/2": (675_129_632, 674_834_720),
    "SiT-XL/4": (675_074_432, 675_000_704),
}


def inputs(n: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(n, 1, 4, 4), torch.rand(n), torch.arange(n) % 3


def awake(**options) -> SiT:
    """A small model whose output is not zero."""
    torch.manual_seed(0)
    model = SiT(**{**TINY, **options})
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_of_the_published_sizes(name):
    with torch.device("meta"):
        model = SiT.from_config(PRESETS[name])
    trained = sum(parameter.numel() for parameter in model.parameters())
    assert (trained + model.pos_embed.numel(), trained) == COUNTS[name]


def test_every_size_has_three_patches():
    assert len(PRESETS) == 12
    assert {config["patch_size"] for config in PRESETS.values()} == {2, 4, 8}


def test_operations_of_xl_2():
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        model = SiT.from_config(PRESETS["SiT-XL/2"])
        model(torch.empty(1, 4, 32, 32), torch.empty(1), torch.zeros(1, dtype=torch.int64))
    assert counter.get_total_flops() == pytest.approx(237.2e9, rel=1e-3)


def test_a_new_model_predicts_zero_and_learns():
    model = SiT(**TINY)
    x, t, labels = inputs()
    output = model(x, t, labels)
    assert output.equal(torch.zeros(3, 1, 4, 4))
    (output - x).square().sum().backward()
    assert model.final_layer.linear.weight.grad.any()
    assert model.x_embedder.proj.weight.std() > 0
    assert model.t_embedder.mlp[0].weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_half_of_the_outputs_is_thrown_away():
    model, (x, t, labels) = awake(learn_sigma=True), inputs()
    with torch.no_grad():
        model.final_layer.linear.weight.view(2, 2, 2, -1)[:, :, 1] = 1e3  # (row, column, channel)
    smaller = awake(learn_sigma=False)
    state = {name: value for name, value in model.state_dict().items() if "final_layer.linear" not in name}
    for name in ("weight", "bias"):
        whole = getattr(model.final_layer.linear, name)
        state[f"final_layer.linear.{name}"] = whole.unflatten(0, (4, 2))[:, 0]
    smaller.load_state_dict(state)
    torch.testing.assert_close(model(x, t, labels), smaller(x, t, labels))


def test_labels_are_dropped_in_training_alone():
    model, (x, t, labels) = awake(class_dropout_prob=0.5), inputs()
    null = torch.full((3,), 3)
    drop = torch.tensor([True, False, True])
    torch.testing.assert_close(model(x, t, labels, drop), model(x, t, torch.where(drop, null, labels)))
    torch.testing.assert_close(model(x, t, None), model(x, t, null))
    assert model(x, t, labels).equal(model(x, t, labels))
    many = [tensor[:1].expand(200, *tensor.shape[1:]) for tensor in (x, t, labels)]
    torch.manual_seed(0)
    outputs = model.train()(*many)
    share = (outputs - outputs[0]).flatten(1).abs().amax(1).gt(1e-5).float().mean()
    assert 0.3 < share < 0.7


def test_a_model_without_a_class_for_none():
    model, (x, t, labels) = awake(class_dropout_prob=0.0), inputs()
    assert model.y_embedder.embedding_table.weight.shape[0] == 3
    assert model.sample(x, 2, labels).isfinite().all()
    with pytest.raises(ConfigError, match="needs the classes"):
        model(x, t, None)


def test_times_stay_in_float32_in_a_bfloat16_model():
    model, (x, t, labels) = awake(), inputs()
    expected = model(x, t, labels)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(x, t, labels)
    half = model.to(torch.bfloat16)(x, t, labels)
    for output in (mixed, half):
        assert output.dtype == torch.float32
        assert (output - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_saved_model_is_loaded_by_its_folder(tmp_path):
    model, (x, t, labels) = awake(path="GVP", prediction="noise"), inputs()
    model.save_pretrained(tmp_path)
    again = load(str(tmp_path))
    assert again.config == model.config
    assert again.prediction == "noise"
    assert again(x, t, labels).equal(model(x, t, labels))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 3}, "patch_size 3 does not divide"),
        ({"path": "linear"}, "path 'linear', expected one of Linear, GVP, VP"),
        ({"prediction": "data"}, "prediction 'data', expected one of velocity"),
        ({"num_heads": 3}, "3 heads"),
        ({"class_dropout_prob": 1.5}, "class_dropout_prob 1.5"),
    ],
)
def test_sizes_and_names_that_are_not_possible(options, message):
    with pytest.raises(ConfigError, match=message):
        SiT(**{**TINY, **options})
