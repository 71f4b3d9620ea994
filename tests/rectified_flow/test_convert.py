"""Official checkpoints to our models and back."""

import pytest
import torch

from visionseq.errors import CheckpointError, ConfigError
from visionseq.rectified_flow.convert import from_official, official_config, to_official
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network

SONG = {
    "unet_type": "songunet",
    "use_fp16": False,
    "num_params": 123,
    "img_resolution": 8,
    "in_channels": 3,
    "out_channels": 3,
    "label_dim": 0,
    "augment_dim": 9,
    "model_channels": 8,
    "channel_mult": [1, 2],
    "channel_mult_emb": 2,
    "num_blocks": 1,
    "attn_resolutions": [4],
    "dropout": 0.0,
    "label_dropout": 0,
    "embedding_type": "fourier",
    "channel_mult_noise": 2,
    "encoder_type": "residual",
    "decoder_type": "standard",
    "resample_filter": [1, 3, 3, 1],
}
ADM = {
    "unet_type": "adm",
    "use_fp16": True,
    "img_resolution": 8,
    "in_channels": 3,
    "out_channels": 3,
    "label_dim": 7,
    "model_channels": 16,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [8],
}


def official(config: dict) -> dict[str, torch.Tensor]:
    """A state as the official code writes it."""
    names = {"songunet": "SongUNet", "adm": "DhariwalUNet"}
    arguments = {key: value for key, value in config.items() if key not in ("unet_type", "use_fp16", "num_params")}
    network = build_network({"type": names[config["unet_type"]], **arguments})
    torch.manual_seed(3)
    return {f"model.{name}": torch.randn_like(tensor) for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("config", [SONG, ADM], ids=["songunet", "adm"])
def test_round_trip_is_exact(config):
    state = official(config)
    model = from_official(state, config)
    assert isinstance(model, EDMVelocity)
    assert not model.training
    assert model.use_fp16 == config["use_fp16"]
    back = to_official(model)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    again = from_official(back, official_config(model))
    assert again.config == model.config


def test_the_forms_in_which_states_come():
    state = official(SONG)
    bare = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    resume = {"model_state_dict": state, "optimizer_state_dict": {"state": {}}, "iter": 7}
    untyped = {key: value for key, value in SONG.items() if key not in ("unet_type", "use_fp16")}
    for form, config in ((bare, SONG), (resume, SONG), (state, untyped), (bare, {**SONG, "aux_dim": 0})):
        back = to_official(from_official(form, config))
        assert all(torch.equal(back[name], state[name]) for name in state)


def test_teacher_and_student_have_the_same_weights():
    state = official(ADM)
    teacher = from_official(state, ADM, EDMDenoiser)
    assert isinstance(teacher, EDMDenoiser)
    assert to_official(teacher).keys() == state.keys()


def test_conversion_does_not_alias_the_state():
    state = official(SONG)
    before = {name: tensor.clone() for name, tensor in state.items()}
    model = from_official(state, SONG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    to_official(model)["model.map_noise.freqs"].zero_()
    assert all(torch.equal(state[name], before[name]) for name in state)
    assert model.model.map_noise.freqs.any()


def test_a_state_that_does_not_fit_is_reported_by_name():
    state = official(SONG)
    del state["model.map_layer0.bias"]
    state["model.extra"] = torch.zeros(1)
    state["model.map_layer1.weight"] = torch.zeros(2, 2)
    with pytest.raises(CheckpointError) as error:
        from_official(state, SONG)
    text = str(error.value)
    assert "map_layer0.bias" in text
    assert "extra" in text
    assert "map_layer1.weight" in text
    assert "1 missing" in text


@pytest.mark.parametrize("state", [{}, {"model_state_dict": None}, {"ema": object()}, {"iter": 3}])
def test_what_is_no_state(state):
    with pytest.raises(CheckpointError, match="official state"):
        from_official(state, SONG)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"unet_type": "ddpm"}, "ddpm"), ({"aux_dim": 4}, "aux_dim"), ({"num_layers": 4}, "num_layers")],
)
def test_unknown_configurations_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        from_official(official(SONG), {**SONG, **change})


def test_networks_of_our_own_have_no_official_layout():
    model = EDMVelocity(build_network({"type": "ResidualMLP", "img_resolution": 4, "in_channels": 1}))
    with pytest.raises(ConfigError, match="ResidualMLP"):
        to_official(model)
