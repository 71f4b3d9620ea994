"""Whole networks and the losses of both stages against vectors of the official implementation."""

import torch
from golden_vector import GoldenVector
from torch import Tensor

from visionseq.bfm.convert import from_official, to_official
from visionseq.bfm.losses import Rows, alignment_loss, flow_loss, residual_loss
from visionseq.bfm.model import BFM
from visionseq.bfm.schedule import segments_by_position

NOT_OF_THE_NETWORK = ("note", "mode", "num_steps_per_segment", "cfg_scale", "guidance_low", "guidance_high")
NOT_OF_THE_NETWORK += ("path_type", "network_calls", "last_step")


def model_of(vector: GoldenVector) -> BFM:
    config = {name: value for name, value in vector.config.items() if name not in NOT_OF_THE_NETWORK}
    return from_official(vector.state, config)


def check_state(vector: GoldenVector) -> None:
    again = to_official(model_of(vector))
    assert again.keys() == vector.state.keys()
    assert all(again[name].equal(tensor) for name, tensor in vector.state.items())


def check_eval(vector: GoldenVector) -> None:
    model, x, y = model_of(vector), vector["in/x"], vector["in/y"]
    with torch.no_grad():
        for name in vector.names("in/t_"):
            segment, t = int(name[3 : name.index("_")]), vector[f"in/t_{name}"].expand(len(x))
            features = model.features(x, model.condition(t, y))
            _close_values(f"feat_{name}", features, vector.expected(f"out/feat_{name}"), 5e-5, 1e-4)
            _close_values(f"v_{name}", model(x, t, y, segment), vector.expected(f"out/v_{name}"), 5e-5, 1e-4)


def check_train_loss(vector: GoldenVector) -> None:
    model, rows, weight = model_of(vector), rows_of(vector), 0.05
    sizes = vector["in/split_sizes"].tolist()
    assert rows.split_sizes(model.segments) == sizes
    x_t = model.path.at(rows.x, rows.noise, rows.t)
    velocity, projected = model.forward_train(x_t, rows.t, rows.class_labels, sizes, rows.drop)
    flow, align = flow_loss(velocity, rows.noise - rows.x), alignment_loss(projected, vector["in/zs"])
    total = flow.mean() + weight * align.mean()
    values = {"x_t": x_t, "velocity": velocity, "projected": projected, "per_sample_flow_loss": flow}
    values |= {"flow_loss": flow.mean(), "align_loss": align.mean(), "total_loss": total}
    vector.close_all("out/", values, 1e-5)
    total.backward()
    _compare_gradients(vector, model)


def check_frn_loss(vector: GoldenVector) -> None:
    model, rows = model_of(vector), rows_of(vector)
    model.requires_grad_(False)
    model.frn_blocks.requires_grad_(True)
    seen = {}
    forward = model.forward_residual

    def spied(x: Tensor, t: Tensor, x_start: Tensor, t_start: Tensor, weight: Tensor, *rest: Tensor):
        approximated, target = forward(x, t, x_start, t_start, weight, *rest)
        seen.update(x_t=x, x_start=x_start, t_start=t_start, coeff=weight.view(-1, 1, 1))
        seen.update(approx=approximated, target_feature=target)
        return approximated, target

    model.forward_residual = spied
    loss = residual_loss(model, rows).mean()
    vector.close_all("out/", {**seen, "loss": loss}, 1e-5)
    loss.backward()
    _compare_gradients(vector, model)


def rows_of(vector: GoldenVector) -> Rows:
    x, noise, t, y, drop = (vector[f"in/{name}"] for name in ("images", "noise", "t", "y", "drop"))
    return Rows(x, noise, t, segments_by_position(len(x), vector.config["segments"]), y, drop.bool())


def _compare_gradients(vector: GoldenVector, model: BFM) -> None:
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients.keys() == set(vector.names("grad/"))
    for name, gradient in gradients.items():
        _close_values(name, gradient, vector.expected(f"grad/{name}"), 2e-5, 1e-3)


def _close_values(name: str, actual: Tensor, expected: Tensor, atol: float, rtol: float) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol, msg=lambda text: f"{name}: {text}")


HANDLERS = {
    "model_state": check_state,
    "model_eval": check_eval,
    "train_loss": check_train_loss,
    "frn_loss": check_frn_loss,
}
