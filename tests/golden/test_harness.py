"""The harness itself: no file and no tensor of a file goes by unseen."""

import json
from pathlib import Path

import pytest
import torch
from golden_vector import GoldenVector
from harness import HERE, check, handlers_of
from safetensors.torch import save_file


def vector(folder: Path, name: str = "kind_small", meta: dict[str, str] | None = None, **tensors) -> GoldenVector:
    named = {key.replace("__", "/"): torch.as_tensor(value) for key, value in tensors.items()}
    path = folder / f"{name}.safetensors"
    save_file(named, path, {"config": json.dumps({"scale": 2}), **(meta or {})})
    return GoldenVector(path)


def double(file: GoldenVector) -> None:
    x = file["in/x"].clone().requires_grad_()
    y = file.config["scale"] * x
    file.close("out/y", y, 1e-6)
    y.sum().backward()
    file.close_all("grad/", {"x": x.grad}, 1e-6)


def test_a_file_whose_results_are_all_compared_passes(tmp_path):
    check(vector(tmp_path, in__x=[1.0, 2.0], out__y=[2.0, 4.0], grad__x=[2.0, 2.0]), {"kind": double})


def test_a_sibling_without_an_optional_result_passes(tmp_path):
    check(vector(tmp_path, in__x=[1.0], out__y=[2.0]), {"kind": double})


def test_a_file_without_a_handler_fails(tmp_path):
    with pytest.raises(AssertionError, match="no handler of this kind"):
        check(vector(tmp_path, "other", in__x=[1.0], out__y=[2.0]), {"kind": double})


@pytest.mark.parametrize("key", ["out__z", "out__after__running_mean", "in__mask", "state__weight"])
def test_a_tensor_that_the_handler_ignores_fails(tmp_path, key):
    with pytest.raises(AssertionError, match="neither reads nor compares"):
        check(vector(tmp_path, in__x=[1.0], out__y=[2.0], **{key: [3.0]}), {"kind": double})


def test_a_result_of_a_name_that_the_handler_does_not_compute_fails(tmp_path):
    with pytest.raises(AssertionError, match="grad/weight is in the file"):
        check(vector(tmp_path, in__x=[1.0], out__y=[2.0], grad__weight=[3.0]), {"kind": double})


def test_reading_a_result_is_not_comparing_it(tmp_path):
    def reads(file: GoldenVector) -> None:
        assert file["in/x"].shape == file["out/y"].shape
        assert file.tensors("out/")

    with pytest.raises(AssertionError, match="out/y"):
        check(vector(tmp_path, in__x=[1.0], out__y=[2.0]), {"kind": reads})


def test_a_wrong_result_fails(tmp_path):
    with pytest.raises(AssertionError, match="out/y"):
        check(vector(tmp_path, in__x=[1.0], out__y=[2.1]), {"kind": double})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_result_that_is_not_finite_matches_only_itself(tmp_path, value):
    file = vector(tmp_path, out__y=[value, 1.0])
    file.close("out/y", [value, 1.0], 1e-6)
    with pytest.raises(AssertionError):
        file.close("out/y", [0.0, 1.0], 1e-6)


def test_the_longest_kind_wins(tmp_path):
    def wrong(file: GoldenVector) -> None:
        raise AssertionError("the shorter kind was chosen")

    check(vector(tmp_path, in__x=[1.0], out__y=[2.0]), {"kind": wrong, "kind_small": double, "kind_smaller": wrong})


@pytest.mark.parametrize("text", ["weights", "weights.safetensors", "weights.safetensors (without blocks.*)"])
def test_weights_come_from_the_file_that_state_from_names(tmp_path, text):
    weights = {"state__half": torch.ones(1, dtype=torch.float16), "state__double": torch.ones(1, dtype=torch.float64)}
    vector(tmp_path, "weights", **weights)
    state = vector(tmp_path, meta={"state_from": text}, in__x=[1.0]).state
    assert (state["half"].dtype, state["double"].dtype) == (torch.float32, torch.float64)


def test_every_committed_folder_has_handlers_and_a_test():
    for folder in {path.parent for path in HERE.glob("*/*.safetensors")}:
        assert handlers_of(folder.name)
        assert (HERE / f"test_{folder.name}.py").exists(), f"{folder.name}: its files are run by no test"
