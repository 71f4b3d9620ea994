"""Samplers against vectors of the official networks."""

import torch
from golden_vector import GoldenVector
from torch import Tensor

from bfm_handlers.models import model_of
from visionseq.bfm.sampling import sample
from visionseq.flow.guidance import ClassifierFree


def check_sampler(vector: GoldenVector) -> None:
    config, name, model = vector.config, vector.path.stem, model_of(vector)
    z, y = vector["in/latents"], vector["in/y"]
    solver, frn = "euler-maruyama" if "_sde" in name else "euler", "_frn" in name
    interval = config["guidance_low"], config["guidance_high"]
    rule = ClassifierFree(interval=interval, scale=config["cfg_scale"])
    noises = iter(vector["in/eps"]) if "in/eps" in vector else None
    seen = Spy(model, len(z))
    trajectory = sample(
        model,
        z,
        y,
        config["num_steps_per_segment"],
        solver,
        frn,
        rule,
        config.get("last_step", "official"),
        noise=None if noises is None else lambda x: next(noises),
    )
    if noises is not None:
        assert next(noises, None) is None
    _compare(vector, trajectory, seen)


class Spy:
    """Keeps the conditional halves of velocities, and all features."""

    def __init__(self, model, rows: int):
        self.velocities: list[Tensor] = []
        self.features: list[Tensor] = []
        velocity, features = model.velocity, model.features

        def spied_velocity(*inputs):
            v = velocity(*inputs)
            self.velocities.append(v[:rows])
            return v

        def spied_features(*inputs):
            f = features(*inputs)
            self.features.append(f)
            return f

        model.velocity, model.features = spied_velocity, spied_features


def _compare(vector: GoldenVector, trajectory, seen: Spy) -> None:
    calls, rows = trajectory.calls, len(trajectory.x)
    assert len(calls) == len(seen.velocities) == vector.config["network_calls"]
    values = {
        "segment": [call.segment for call in calls],
        "t": [call.t for call in calls],
        "guided": [int(call.guided) for call in calls],
        "used_frn": [int(call.frn) for call in calls],
        "coeff": torch.tensor([call.weight for call in calls], dtype=torch.float64),
        "v_cond": torch.stack(seen.velocities),
        "x_before_step": trajectory.states[:-1],
    }
    doubled = [int(len(features) > rows) for features in seen.features]
    if "out/used_frn" in vector:
        values["anchor_cond"] = torch.stack([features[:rows] for features in seen.features])
        values["anchor_rows_doubled"] = doubled
    if "out/anchor_null" in vector:
        _compare_null_anchors(vector, seen.features, rows)
    for name, value in values.items():
        key = f"out/{name}"
        if key in vector:
            expected = vector.expected(key)
            actual = torch.as_tensor(value).to(expected.dtype)
            torch.testing.assert_close(
                actual, expected, atol=2e-4, rtol=1e-3, msg=lambda text, key=key: f"{key}: {text}"
            )
    torch.testing.assert_close(trajectory.x, vector.expected("out/final"), atol=2e-4, rtol=1e-3)


def _compare_null_anchors(vector: GoldenVector, features: list[Tensor], rows: int) -> None:
    """Segments without a null anchor hold zeros in the file, or NaN."""
    for anchor, expected in zip(features, vector.expected("out/anchor_null"), strict=True):
        if len(anchor) > rows:
            torch.testing.assert_close(anchor[rows:], expected, atol=2e-4, rtol=1e-3)
        else:
            assert not expected.nan_to_num().any()


HANDLERS = {"sampler": check_sampler}
