"""Ratio-aware guidance in diffusers: what it does to a pipeline, what it leaves behind, what it refuses."""

import logging
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from visionseq.errors import ConfigError

pytest.importorskip("diffusers")
pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

from golden_vector import GoldenVector
from raag_handlers.tiny_pipelines import PIPELINES, call_arguments, transformer_of

from visionseq.flow.guidance import RatioAware
from visionseq.integrations.diffusers import PRESETS, RAAGGuidance, ratio_aware_guidance
from visionseq.integrations.diffusers.layouts import LAYOUTS

KINDS = {
    "sd3": "StableDiffusion3Pipeline",
    "wan": "WanPipeline",
    "qwen": "QwenImagePipeline",
    "lumina2": "Lumina2Pipeline",
    "lumina_next": "LuminaPipeline",
}
STRONG = {"max_guidance_scale": 9.0, "alpha": 3.0}


def pipeline(kind: str, dtype: torch.dtype = torch.float32):
    """A tiny pipeline and the arguments of a short call, but its scale."""
    vector = GoldenVector(Path(__file__).parents[1] / "golden" / "raag" / f"pipeline_{kind}.safetensors")
    pipe = PIPELINES[kind](vector.config, transformer_of(kind, vector.config, vector.state)).to(dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    arguments = call_arguments(kind, vector.config, vector.tensors("in/"))
    halves = {
        k: v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v for k, v in arguments.items()
    }
    return pipe, {**halves, "num_inference_steps": 3}


def latents(output) -> torch.Tensor:
    return output.frames if hasattr(output, "frames") else output.images


def plain(pipe, arguments, scale: float) -> torch.Tensor:
    return latents(pipe(**arguments, **{LAYOUTS[type(pipe).__name__].scale: scale}))


@pytest.mark.parametrize("kind", KINDS)
def test_without_alpha_it_is_classifier_free_guidance(kind):
    pipe, arguments = pipeline(kind)
    expected = plain(pipe, arguments, 9.0)
    with ratio_aware_guidance(pipe, max_guidance_scale=9.0, alpha=0.0):
        actual = latents(pipe(**arguments))
    if LAYOUTS[KINDS[kind]].doubled:
        assert actual.equal(expected)
    else:
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_at_scale_one_the_prompt_stands_alone(kind):
    pipe, arguments = pipeline(kind)
    expected, calls = plain(pipe, arguments, 1.0), []
    handle = pipe.transformer.register_forward_hook(lambda *_: calls.append(1))
    with ratio_aware_guidance(pipe, max_guidance_scale=1.0) as guidance:
        assert latents(pipe(**arguments)).equal(expected)
    handle.remove()
    assert len(calls) == arguments["num_inference_steps"]
    assert guidance.ratios == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fails", [False, True])
def test_the_pipeline_is_left_as_it_was(kind, fails):
    pipe, arguments = pipeline(kind)
    before, original = plain(pipe, arguments, 4.0), type(pipe)
    expectation = pytest.raises(RuntimeError, match="in the middle") if fails else nullcontext()
    with expectation, ratio_aware_guidance(pipe, **STRONG):
        assert not latents(pipe(**arguments)).equal(before)
        if fails:
            raise RuntimeError("in the middle")
    assert type(pipe) is original
    assert not pipe.transformer._forward_hooks
    assert plain(pipe, arguments, 4.0).equal(before)


def test_a_sample_does_not_depend_on_its_batch():
    pipe, arguments = pipeline("sd3")
    alone = {k: v[:1] if isinstance(v, torch.Tensor) else v for k, v in arguments.items()}
    with ratio_aware_guidance(pipe, **STRONG):
        torch.testing.assert_close(latents(pipe(**arguments))[:1], latents(pipe(**alone)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["wan", "qwen", "lumina2"])
def test_the_conditional_prediction_may_be_left_alone(kind):
    pipe, arguments = pipeline(kind)
    results = []
    for in_place in (True, False):
        with ratio_aware_guidance(pipe, **STRONG, in_place=in_place):
            results.append(latents(pipe(**arguments)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_keeps_its_dtype_and_the_rule(kind):
    pipe, arguments = pipeline(kind, torch.bfloat16)
    with ratio_aware_guidance(pipe, **STRONG) as guidance:
        x = latents(pipe(**arguments))
    assert x.isfinite().all()
    assert all(ratio.dtype == torch.float32 for ratio in guidance.ratios)
    if not LAYOUTS[KINDS[kind]].doubled:
        message = r"in_place=False needs float32, the model is torch\.bfloat16"
        with pytest.raises(ConfigError, match=message), ratio_aware_guidance(pipe, in_place=False):
            pass


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("start", "stop", "guided"), [(0.0, 1.0, 3), (0.4, 1.0, 2), (0.0, 0.4, 1)])
def test_the_ratio_is_kept_once_for_every_guided_step(kind, start, stop, guided):
    pipe, arguments = pipeline(kind)
    with ratio_aware_guidance(pipe, **STRONG, start=start, stop=stop) as guidance:
        pipe(**arguments)
        pipe(**arguments)
    assert len(guidance.ratios) == len(guidance.weights) == guided
    assert guidance.suggested_alpha() == pytest.approx(1 / guidance.ratios[guided // 2].mean().item())


def test_steps_that_lumina_cuts_off_keep_their_pairs():
    pipe, arguments = pipeline("lumina2")
    with ratio_aware_guidance(pipe, **STRONG) as guidance:
        pipe(**{**arguments, "num_inference_steps": 6, "cfg_trunc_ratio": 0.5})
        first = torch.stack(guidance.ratios)
        pipe(**{**arguments, "num_inference_steps": 6})
        assert torch.stack(guidance.ratios)[:3].equal(first)
    assert len(first) == 3


def test_both_transformers_of_wan_are_guided():
    pipe, arguments = pipeline("wan")
    second = type(pipe.transformer).from_config(pipe.transformer.config).eval()
    second.load_state_dict(pipe.transformer.state_dict())
    pipe.transformer_2 = second
    pipe.register_to_config(boundary_ratio=0.6)
    with ratio_aware_guidance(pipe, **STRONG) as guidance:
        x = latents(pipe(**arguments))
    assert len(guidance.ratios) == 3
    assert not second._forward_hooks
    pipe.register_to_config(boundary_ratio=None)
    with ratio_aware_guidance(pipe, **STRONG):
        torch.testing.assert_close(latents(pipe(**arguments)), x)


class HostReads(TorchDispatchMode):
    """Counts reads of a tensor's value by the host, which a GPU would have to wait for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_waits_for_the_device_because_of_guidance(kind):
    """A call with guidance reads as many values on the host as one of the pipeline alone."""
    pipe, arguments = pipeline(kind)
    with HostReads() as alone:
        plain(pipe, arguments, 9.0)
    with ratio_aware_guidance(pipe, **STRONG), HostReads() as guided:
        pipe(**arguments)
    assert guided.count == alone.count


def test_what_guidance_cannot_be_combined_with(caplog):
    pipe, arguments = pipeline("sd3")
    with ratio_aware_guidance(pipe) as guidance:
        with pytest.raises(ConfigError, match="skip_guidance_layers works on predictions"):
            pipe(**arguments, skip_guidance_layers=[1])
        pipe(**arguments, guidance_scale=7.0)
    assert guidance.rule == replace(RatioAware(), channels=None)
    assert "guidance_scale has no effect" in caplog.text

    message = "dict has no ratio-aware guidance here, expected one of StableDiffusion3"
    with pytest.raises(ConfigError, match=message), ratio_aware_guidance({}):
        pass
    with pytest.raises(ConfigError, match="expected shares"), ratio_aware_guidance(pipe, start=0.5, stop=0.2):
        pass


def test_distilled_models_are_refused():
    pipe, _ = pipeline("qwen")
    pipe.transformer.register_to_config(guidance_embeds=True)
    message = "is distilled: one evaluation a step holds the guidance already"
    with pytest.raises(ConfigError, match=message), ratio_aware_guidance(pipe):
        pass


def test_qwen_needs_the_other_side_of_the_prompt():
    pipe, arguments = pipeline("qwen")
    alone = {name: value for name, value in arguments.items() if not name.startswith("negative")}
    with ratio_aware_guidance(pipe), pytest.raises(ConfigError, match="negative_prompt_embeds are missing"):
        pipe(**alone)


def test_presets_say_whether_they_are_tuned(caplog):
    pipe, _ = pipeline("sd3")
    with caplog.at_level(logging.WARNING, "visionseq"):
        for name, preset in PRESETS.items():
            caplog.clear()
            with ratio_aware_guidance(pipe, preset=name) as guidance:
                assert (guidance.rule.max_guidance_scale, guidance.rule.alpha) == (
                    preset.max_guidance_scale,
                    preset.alpha,
                )
            assert ("is not tuned" in caplog.text) != preset.tuned
    message = r"preset 'sd3', expected one of sd3\.5"
    with pytest.raises(ConfigError, match=message), ratio_aware_guidance(pipe, preset="sd3"):
        pass


def test_the_guider_is_saved_and_read_again(tmp_path):
    guider = RAAGGuidance(9.0, 3.0, "global", guidance_rescale=0.5, start=0.2, stop=0.8)
    guider.save_pretrained(tmp_path)
    again = RAAGGuidance.from_pretrained(tmp_path)
    assert again.rule == guider.rule
    assert again.new(alpha=4.0).rule == replace(guider.rule, alpha=4.0)


def test_the_guider_acts_in_its_part_of_the_steps():
    guider = RAAGGuidance(9.0, 3.0, start=0.25, stop=0.75)
    conditions = []
    for step in range(4):
        guider.set_state(step, 4, torch.tensor(0))
        conditions.append(guider.num_conditions)
    assert conditions == [1, 2, 2, 1]
    cond = torch.ones(1, 2, 2)
    assert guider.forward(cond).pred.equal(cond)
    assert RAAGGuidance(enabled=False).num_conditions == 1
    assert RAAGGuidance(max_guidance_scale=1.0).num_conditions == 1
