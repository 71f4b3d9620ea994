"""The benchmark of the kernels: a peer must compute what ours computes, or the ratio says nothing."""

import json

import pytest
import torch

from visionseq.benchmarks.kernels import recurrent_layers
from visionseq.benchmarks.kernels import rows as table
from visionseq.benchmarks.kernels.measure import peak_bytes, scaling
from visionseq.benchmarks.kernels.report import write_page

SMALL = [
    table.linear_scan(2, 16, 8),
    table.selective_scan(2, 9, 8, 4),
    table.scalar_gla(1, 128, 2, 8, 16),
    table.retention(1, 70, 2, 8, 16),
    table.rwkv6(1, 9, 2, 8),
    table.mlstm(1, 33, 2, 8),
    table.hybrid(1, 3, 8, 2, 8),
    table.delta_net(1, 20, 2, 8),
    table.rwkv7(1, 20, 2, 8),
    table.ttt(1, 33, 2, 8),
    table.grid(1, 4, 2, 8),
    table.strip(3, 4, 2, 8),
    table.recurrent("lstm", 2, 7, 1, 8),
    table.recurrent("gru", 2, 7, 2, 8),
    table.lif(6, 1, 3, 8),
]
OTHER_NEURON = "spikingjelly, torch backend"  # one threshold for all channels


@pytest.mark.parametrize("row", SMALL, ids=lambda row: f"{row.operator}-{row.shape}")
def test_peers_compute_the_same(row: table.Row):
    inputs = row.draw("cpu")
    ours = row.ours(inputs)
    torch.testing.assert_close(ours, row.ours(inputs, "reference"), rtol=1e-4, atol=1e-4)
    for name, peer in {**row.peers, **row.optional_peers}.items():
        if name in row.optional_peers:
            pytest.importorskip("spikingjelly" if name == OTHER_NEURON else "fla")
        result = peer(**inputs)
        if name == OTHER_NEURON:
            assert result.numel() == ours.numel()
        else:
            torch.testing.assert_close(result, ours, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("name", recurrent_layers.LAYERS)
def test_recurrent_layers_do_the_same_work_on_both_sides(name: str):
    ours, theirs = recurrent_layers.pair(name, 8)
    x = torch.randn(3, 5, 8, requires_grad=True)
    y, expected = ours(x)[0], theirs(x)[0]
    torch.testing.assert_close(y, expected)
    (d_x,), (expected_d_x,) = (torch.autograd.grad(out.sum(), x, retain_graph=True) for out in (y, expected))
    torch.testing.assert_close(d_x, expected_d_x)
    for layer, out in ((ours, y), (theirs, expected)):
        out.sum().backward()
        assert all(parameter.grad is not None for parameter in layer.parameters())
    torch.testing.assert_close(ours.in_proj.weight.grad, theirs.weight_ih_l0.grad)


def test_recurrent_section_has_every_layer_and_says_what_each_side_does(monkeypatch):
    monkeypatch.setattr(recurrent_layers, "SHAPES", ((2, 3, 4), (1, 2, 8)))
    monkeypatch.setattr(recurrent_layers, "SPAN", 0.0)
    threads = torch.get_num_threads()
    rows = recurrent_layers.recurrent("cpu", 2)
    assert list(rows) == [f"{name}: {shape}" for name in ("LSTM", "GRU") for shape in ("B2 T3 D4", "B1 T2 D8")]
    assert torch.get_num_threads() == threads
    for part in rows["GRU: B1 T2 D8"].values():
        assert part["speed_up"].keys() == part["speed_up_of_fastest_rounds"].keys() == {"torch.nn.GRU"}
        assert "input projection" in part["each side does"]


def test_every_operator_is_timed():
    from visionseq.kernels.backends import implemented_backends

    assert {row.operator for row in table.rows()} == set(implemented_backends())
    assert {row.operator for row in table.growing(512).values()} == set(implemented_backends())


def test_peak_memory_sees_what_the_allocator_had_kept():
    def allocate():
        return [torch.ones(2**18) for _ in range(64)]

    torch.ones(2**22)  # once freed, glibc takes blocks below its size from the heap, which only shrinks at its end
    blocks = allocate()
    end = torch.ones(2**18)
    del blocks
    assert 0.9 * 2**26 < peak_bytes(allocate, "cpu") < 1.5 * 2**26
    del end


def test_page_tells_the_ratios(tmp_path, monkeypatch):
    monkeypatch.setattr("visionseq.benchmarks.kernels.measure.LENGTHS", (64, 128))
    timed = {"seconds": {"visionseq": {"median_s": 0.002}}, "speed_up": {"naive loop": 12.5}, "busy": False}
    layers = {"seconds": timed["seconds"], "speed_up": {"torch.nn.LSTM": 1.5}}
    layers["speed_up_of_fastest_rounds"] = {"torch.nn.LSTM": 1.25}
    results = {
        "speed": {"linear_scan: B1": {"forward": timed, "forward + backward": timed | {"busy": True}}},
        "recurrent": {"LSTM: B1 T2 D8": dict.fromkeys(("forward", "forward + backward"), layers)},
        "memory": {"bytes of inputs and outputs": 10, "visionseq": {"ratio_to_inputs_and_outputs": 2.5}},
        "scaling": json.loads(json.dumps(scaling("cpu", 1))),
        "threads": {"linear_scan: B1": {"speed_up_of_two_threads": 1.7}},
    }
    machine = {"processor": "some", "gpu": [], "threads": 1, "cores": 2, "packages": {"torch": "2.15"}}
    write_page(tmp_path / "page.md", results, machine)
    page = (tmp_path / "page.md").read_text()
    assert "| linear_scan: B1 | naive loop | 12.5x | 2.00 | 12.5x | 2.00 (busy) |" in page
    assert "| LSTM: B1 T2 D8 | 1.50x | 1.25x | 2.00 | 1.50x | 1.25x | 2.00 |" in page
    assert "- visionseq: 2.50" in page
    assert "1.70x" in page
    assert (tmp_path / "page_scaling.png").stat().st_size > 1000
