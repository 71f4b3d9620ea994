"""The choice of a kernel's backend."""

import pytest

from visionseq.errors import KernelError
from visionseq.kernels.backends import BACKENDS, choose_backend, obstacle


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("VISIONSEQ_BACKEND", raising=False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_auto_takes_the_first_that_can_serve():
    best = "reference" if obstacle("cpu", "cpu") else "cpu"
    assert choose_backend("cpu") == best
    assert choose_backend("cpu", implemented=("triton", "reference")) == "reference"
    assert choose_backend("cuda:0", implemented=("reference",)) == "reference"


def test_environment_replaces_auto_and_an_argument_wins(monkeypatch):
    monkeypatch.setenv("VISIONSEQ_BACKEND", "reference")
    assert choose_backend("cuda") == "reference"
    monkeypatch.setenv("VISIONSEQ_BACKEND", "cpu")
    assert choose_backend("cuda", backend="reference") == "reference"
    with pytest.raises(KernelError, match="backend 'cpu' cannot serve on cuda: it serves tensors on the CPU"):
        choose_backend("cuda")


def test_impossible_wishes_are_refused(monkeypatch):
    with pytest.raises(KernelError, match="backend 'cuda', expected auto, triton, cpu, reference"):
        choose_backend("cpu", backend="cuda")
    with pytest.raises(KernelError, match="triton"):
        choose_backend("cpu", backend="triton")
    with pytest.raises(KernelError, match="this kernel does not have it"):
        choose_backend("cpu", backend="cpu", implemented=("reference",))
    assert obstacle("reference", "xpu") is None
    assert BACKENDS[-1] == "reference"
