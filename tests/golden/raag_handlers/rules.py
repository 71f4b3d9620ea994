"""Guidance rules against diffusers' guiders, the official releases and float64 references."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from golden_vector import GoldenVector, first_number
from torch import Tensor

from visionseq.claims.raag.mixture import GaussianMixture
from visionseq.flow.guidance import Guidance, RatioAware, guidance_rule, guided
from visionseq.flow.guidance.ratio_aware import REDUCTIONS, guidance_ratio, guidance_weight
from visionseq.flow.paths import Linear
from visionseq.flow.solvers import euler, integrate

PATH = Linear(data_at=0)
RULE_NAMES = {"cfg": "cfg", "auto_guidance": "cfg", "cfg_zero_star": "cfg-zero-star", "apg": "apg", "tcfg": "tcfg"}
OPTIONS = {  # diffusers' names and ours
    "guidance_scale": "scale",
    "guidance_rescale": "rescale",
    "use_original_formulation": "from_conditional",
    "zero_init_steps": "zero_steps",
    "adaptive_projected_guidance_momentum": "momentum",
    "adaptive_projected_guidance_rescale": "norm",
    "eta": "eta",
    "max_guidance_scale": "max_guidance_scale",
    "alpha": "alpha",
    "reduction": "reduction",
}
NOT_OF_A_RULE = {"rule", "start", "stop", "enabled", "auto_guidance_layers", "dropout"}


def check_schedule(vector: GoldenVector) -> None:
    for number, pair in enumerate(vector.config["pairs"]):
        weight = guidance_weight(vector["in/ratio"], pair["w_max"], pair["alpha"])
        vector.close(f"out/w{number}", weight, first_number(vector.tolerance, 1e-12))


def check_velocities(vector: GoldenVector) -> None:
    for case, options in vector.config.items():
        cond, uncond = vector[f"in/{case}/cond"], vector[f"in/{case}/uncond"]
        for reduction in REDUCTIONS:
            rule = RatioAware(options["w_max"], options["alpha"], reduction)
            original = RatioAware(options["w_max"], options["alpha"], reduction, from_conditional=True)
            values = {
                "guided": rule(cond, uncond, 0.5),
                "guided_diffusers": rule(cond, uncond, 0.5),
                "guided_original_formulation": original(cond, uncond, 0.5),
                "ratio": rule.last_ratio,
                "w": rule.last_weight,
            }
            vector.close_all(f"out/{case}/{reduction}/", values, first_number(vector.tolerance, 2e-6))


def check_edge(vector: GoldenVector) -> None:
    config = vector.config
    for name in {name.rpartition("/")[0] for name in vector.names("in/")}:
        rule = RatioAware(config["w_max"], config["alpha"], eps=config["eps"])
        guided_prediction = rule(vector[f"in/{name}/cond"], vector[f"in/{name}/uncond"], 0.5)
        for key, value in {"ratio": rule.last_ratio, "w": rule.last_weight}.items():
            torch.testing.assert_close(value.double(), vector.expected(f"out/{name}/{key}").double(), rtol=1e-5, atol=0)
        _within_a_unit(guided_prediction, vector.expected(f"out/{name}/guided"))


def _within_a_unit(actual: Tensor, expected: Tensor) -> None:
    """float32 within 1e-5 relative; half precision within one unit in the last place, infinite beyond its range."""
    if actual.dtype == torch.float32:
        torch.testing.assert_close(actual.double(), expected.double(), rtol=1e-5, atol=1e-5)
        return
    reference = expected.to(actual.dtype)
    finite = reference.isfinite()
    assert actual[~finite].equal(reference[~finite])
    limits = torch.finfo(actual.dtype)
    unit = limits.eps * reference[finite].double().abs().clamp_min(limits.tiny)
    assert ((actual[finite].double() - expected[finite].double()).abs() <= unit).all()


def check_parametrisation(vector: GoldenVector) -> None:
    config, tolerance = vector.config, first_number(vector.tolerance, 1e-10)
    x_t, t = vector["in/x_t"], vector["in/t"]
    pairs = {"v": (vector["in/v_cond"], vector["in/v_uncond"])}
    for name, kind in (("x0", "data"), ("eps", "noise")):
        pairs[name] = tuple(PATH.convert(x_t, v, t, "velocity", kind) for v in pairs["v"])
    for name, pair in pairs.items():
        vector.close(f"out/ratio_{name}", guidance_ratio(*pair), tolerance)

    # One weight, of the velocities, serves all three.
    rule = RatioAware(config["w_max"], config["alpha"])
    rule(*pairs["v"], 0.5)
    vector.close("out/w", rule.last_weight, tolerance)
    for name, (cond, uncond) in pairs.items():
        weight = rule.last_weight.view(-1, *[1] * (cond.ndim - 1))
        vector.close(f"out/{name}", uncond + weight * (cond - uncond), tolerance)


def check_guiders(vector: GoldenVector) -> None:
    cond, uncond = vector["in/cond"], vector["in/uncond"]
    for name, options in vector.config.items():
        if options["rule"] == "cfg_plus_plus":
            vector.close(f"out/{name}", _cfg_plus_plus(vector, options["lambda"])[1:], _tolerance(vector, name))
            continue
        # The time of a step is its share of the steps, so that an interval of shares is one of times.
        rule, steps = _rule(options), len(cond)
        rule.reset([i / steps for i in range(steps + 1)])
        results = [rule(cond[i], uncond[i], i / steps) if rule.active(i / steps) else cond[i] for i in range(steps)]
        vector.close(f"out/{name}", torch.stack(results), _tolerance(vector, name))


def _rule(options: Mapping[str, Any]) -> Guidance:
    assert options.get("enabled", True)
    unknown = options.keys() - OPTIONS.keys() - NOT_OF_A_RULE - {"adaptive_projected_guidance_norm_dim"}
    assert not unknown, f"options without a meaning here: {sorted(unknown)}"
    assert options.get("adaptive_projected_guidance_norm_dim") is None
    ours = {OPTIONS[key]: value for key, value in options.items() if key in OPTIONS}
    # A step belongs to [start, stop): the last time of the interval is just below `stop`.
    ours["interval"] = options.get("start", 0.0), options.get("stop", 1.0) - 1e-9
    if options["rule"] != "raag":
        return guidance_rule(RULE_NAMES[options["rule"]], ours)
    if "scale" in ours:
        ours["max_guidance_scale"] = ours.pop("scale")
    return guidance_rule("raag", ours)


def _cfg_plus_plus(vector: GoldenVector, strength: float) -> Tensor:
    """All states of the trajectory, from predictions that the file gives for each time."""
    grid = vector["in/t"].tolist()
    given = {t: i for i, t in enumerate(torch.tensor(grid[:-1]).tolist())}

    def model(x: Tensor, t_B: Tensor, conditional: bool) -> Tensor:
        return vector["in/cond" if conditional else "in/uncond"][given[t_B[0].item()]].double()

    field = guided(model, True, False, guidance_rule("cfg++", {"strength": strength}), grid=grid)
    states = integrate(euler, field, vector["in/x"].double(), grid).states
    assert states is not None
    return states


def _tolerance(vector: GoldenVector, name: str) -> float:
    """That of the file, or the one that it names for this run: "1e-5; tcfg 5e-5"."""
    special = re.search(rf"\b{name}\s+(\d+(?:\.\d+)?e-?\d+)", vector.tolerance)
    return float(special[1]) if special else first_number(vector.tolerance, 1e-5)


def check_gaussian_mixture(vector: GoldenVector) -> None:
    means, x = vector["in/mu"].double(), vector["in/x_t"].double()
    covariance = vector.config["std"] ** 2 * torch.eye(means.shape[1], dtype=torch.float64)
    mixture = GaussianMixture(means, covariance.expand(len(means), -1, -1), vector["in/p"].double())
    times = vector["in/t"].tolist()
    cond = torch.stack([mixture.class_velocity(x, t, vector["in/label"]) for t in times])
    uncond = torch.stack([mixture.velocity(x, t) for t in times])
    ratios = torch.stack([guidance_ratio(c, u) for c, u in zip(cond, uncond, strict=True)])
    values = {"v_cond": cond, "v_uncond": uncond, "ratio": ratios}
    vector.close_all("out/", values, first_number(vector.tolerance, 1e-9))


HANDLERS = {
    "schedule": check_schedule,
    "velocities": check_velocities,
    "edge": check_edge,
    "parametrisation": check_parametrisation,
    "guiders": check_guiders,
    "gaussian_mixture": check_gaussian_mixture,
}
