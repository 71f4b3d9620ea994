"""The network, its guidance, its positions and its losses against vectors of the official implementation."""

import torch
from golden_vector import GoldenVector, close, first_number

from visionseq.nn.embeddings import sincos_positions
from visionseq.sit.convert import from_official
from visionseq.sit.losses import prediction_loss, training_times
from visionseq.sit.model import CONFIG, SiT
from visionseq.sit.transport import path_of


def model_of(vector: GoldenVector, **values) -> SiT:
    """The model of a file, perhaps made for another path or prediction than its own."""
    config = {name: value for name, value in vector.config.items() if name in CONFIG}
    return from_official(vector.state, {**config, **values})


def check_model(vector: GoldenVector) -> None:
    tolerance, model = first_number(vector.tolerance, 1e-5), model_of(vector)
    assert model.state_dict().keys() == vector.state.keys()
    x = vector["in/x"].requires_grad_()
    output = model(x, vector["in/t"], vector["in/y"])
    vector.close("out/v", output, tolerance)

    # Gradients of the cotangent by the input and by some of the parameters.
    named = {"x": x, **dict(model.named_parameters())}
    names = vector.names("grad/")
    gradients = torch.autograd.grad(output, [named[name] for name in names], vector["in/cot"])
    vector.close_all("grad/", dict(zip(names, gradients, strict=True)), tolerance)


def check_guided(vector: GoldenVector) -> None:
    config = vector.config
    channels = None if config["cfg_channels"] == "all" else config["cfg_channels"]
    output = model_of(vector).forward_with_cfg(
        vector["in/x"], vector["in/t"], vector["in/y"], config["cfg_scale"], channels
    )
    vector.close("out/v", output, first_number(vector.tolerance, 1e-5))


def check_positions(vector: GoldenVector) -> None:
    config = vector.config
    side = config["input_size"] // config["patch_size"]
    vector.close("out/pos_embed", sincos_positions((side, side), config["hidden_size"]), 1e-6)


def check_losses(vector: GoldenVector) -> None:
    model, data, noise = model_of(vector), vector["in/x1"], vector["in/x0"]
    for run in vector.names("out/"):
        name, prediction = run.split(".")
        path, t_B = path_of(name), vector[f"in/t.{run}"]
        if "in/u" in vector:
            close(f"times of {run}", training_times(vector["in/u"], path, prediction), t_B, 1e-7)
        output = model(path.at(data, noise, t_B), t_B, vector["in/y"])
        weight = vector.config["loss_weight"] or "none"
        losses = prediction_loss(output, data, noise, t_B, path, prediction, weight)
        expected = vector.expected(f"out/{run}")
        torch.testing.assert_close(losses, expected, rtol=1e-5, atol=0, msg=lambda text, run=run: f"{run}: {text}")


HANDLERS = {
    "model": check_model,
    "model_cfg": check_guided,
    "pos_embed": check_positions,
    "losses": check_losses,
}
