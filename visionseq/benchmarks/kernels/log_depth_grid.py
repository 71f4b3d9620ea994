"""The log-depth form of four-direction grid scans, as published for pLSTM (arXiv 2506.11997): cells of 2 x 2 merge.

Re-expressed from its equations. A cell of w x w nodes has transitions between its in- and out-edges (T), what its nodes
send to the out-edges (S), what its nodes read from the in-edges (M), and what they read from one another (G). A level
composes four cells into one of twice the side, until one cell holds the grid, which is padded to a power of two.

Shapes: n batch and heads, X and Y cells; w, u nodes along X and z, t along Y within a cell; a, b edges of a side.
T [n, X, Y, a, b], S and M [n, X, w, Y, z, a], G [n, X, w, u, Y, z, t].
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

PLACES = ("ee", "oe", "eo", "oo")  # of a cell among four: even or odd along X, then along Y


def log_depth_grid_scan(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    source_r: Tensor,
    source_d: Tensor,
    t_rl: Tensor,
    t_ru: Tensor,
    t_dl: Tensor,
    t_du: Tensor,
    mark_l: Tensor,
    mark_u: Tensor,
    direct: Tensor,
) -> Tensor:
    """The y of `grid_scan(..., directions=4)`; its output is one einsum of four factors, as published."""
    batch, rows, columns, heads, size = q.shape
    side = 1 << (max(rows, columns) - 1).bit_length()
    margin = (0, side - columns, 0, side - rows)
    gates = [
        pad(gate.permute(0, 3, 4, 1, 2).flatten(0, 1), margin)
        for gate in (source_r, source_d, t_rl, t_ru, t_dl, t_du, mark_l, mark_u)
    ]
    turned = []
    for direction, axes in enumerate(((), (1,), (2,), (1, 2))):
        weights = gate_matrix(*(gate[:, direction].flip(axes) for gate in gates))
        turned.append(weights.flip([place for axis in axes for place in ((1, 2) if axis == 1 else (3, 4))]))
    nodes = side * side
    weights = sum(turned[1:], turned[0]).transpose(2, 3).reshape(batch * heads, nodes, nodes)
    weights = weights + torch.diag_embed(pad(direct.permute(0, 3, 1, 2), margin).reshape(batch * heads, -1))
    q, k, v = (pad(x.permute(0, 3, 1, 2, 4), (0, 0, *margin)).reshape(batch * heads, nodes, -1) for x in (q, k, v))
    y = torch.einsum("nid,nij,njd,njv->niv", q * size**-0.5, weights, k, v)
    return y.view(batch, heads, side, side, -1)[:, :, :rows, :columns].permute(0, 2, 3, 1, 4)


def gate_matrix(
    source_r: Tensor,
    source_d: Tensor,
    t_rl: Tensor,
    t_ru: Tensor,
    t_dl: Tensor,
    t_du: Tensor,
    mark_l: Tensor,
    mark_u: Tensor,
) -> Tensor:
    """What node (w, z) reads of node (u, t) in one direction, [n, w, u, z, t], of gates [n, X, Y]."""
    T = [t[..., None, None] for t in (t_rl, t_ru, t_dl, t_du)]
    S = [s[:, :, None, :, None, None] for s in (source_r, source_d)]
    M = [m[:, :, None, :, None, None] for m in (mark_l, mark_u)]
    G = torch.zeros_like(source_r)[:, :, None, None, :, None, None]
    while G.shape[1] > 1:
        T, S, M, G = _merge(T, S, M, G)
    return G[:, 0, :, :, 0]


def _merge(T: list[Tensor], S: list[Tensor], M: list[Tensor], G: Tensor) -> tuple:
    """Four neighbouring cells (even or odd in x and in y) become one, with its edges, sources, marks and nodes."""
    # The four cells, and the ways through the last one.
    rl, ru, dl, du = (_four(t, 1, 2) for t in T)
    s_r, s_d = (_four(s, 1, 3) for s in S)
    m_l, m_u = (_four(m, 1, 3) for m in M)
    g = _four(G, 1, 4)
    right_then_right, down_then_right = rl["oo"] @ ru["eo"], ru["oo"] @ dl["oe"]  # into the last cell, out to the right
    down_then_down, right_then_down = du["oo"] @ dl["oe"], dl["oo"] @ ru["eo"]

    # From the edges that enter the merged cell to those that leave it.
    transitions = [
        _blocks(
            rl["oe"] @ rl["ee"], None, down_then_right @ rl["ee"] + right_then_right @ dl["ee"], rl["oo"] @ rl["eo"]
        ),
        _blocks(
            rl["oe"] @ ru["ee"], ru["oe"], right_then_right @ du["ee"] + down_then_right @ ru["ee"], ru["oo"] @ du["oe"]
        ),
        _blocks(
            du["eo"] @ dl["ee"], dl["eo"], down_then_down @ rl["ee"] + right_then_down @ dl["ee"], dl["oo"] @ rl["eo"]
        ),
        _blocks(du["eo"] @ du["ee"], None, right_then_down @ du["ee"] + down_then_down @ ru["ee"], du["oo"] @ du["oe"]),
    ]

    # From its nodes to the edges that leave it, and from the edges that enter it to its nodes.
    sources = [
        _nodes(
            (_send(rl["oe"], s_r["ee"]), _send(down_then_right, s_r["ee"]) + _send(right_then_right, s_d["ee"])),
            (s_r["oe"], _send(ru["oo"], s_d["oe"])),
            (torch.zeros_like(s_r["ee"]), _send(rl["oo"], s_r["eo"])),
            (torch.zeros_like(s_r["ee"]), s_r["oo"]),
        ),
        _nodes(
            (_send(du["eo"], s_d["ee"]), _send(right_then_down, s_d["ee"]) + _send(down_then_down, s_r["ee"])),
            (torch.zeros_like(s_d["ee"]), _send(du["oo"], s_d["oe"])),
            (s_d["eo"], _send(dl["oo"], s_r["eo"])),
            (torch.zeros_like(s_d["ee"]), s_d["oo"]),
        ),
    ]
    marks = [
        _nodes(
            (m_l["ee"], torch.zeros_like(m_l["ee"])),
            (_read(m_l["oe"], rl["ee"]), torch.zeros_like(m_l["ee"])),
            (_read(m_u["eo"], dl["ee"]), m_l["eo"]),
            (_read(m_l["oo"], ru["eo"] @ dl["ee"]) + _read(m_u["oo"], dl["oe"] @ rl["ee"]), _read(m_l["oo"], rl["eo"])),
        ),
        _nodes(
            (m_u["ee"], torch.zeros_like(m_u["ee"])),
            (_read(m_l["oe"], ru["ee"]), m_u["oe"]),
            (_read(m_u["eo"], du["ee"]), torch.zeros_like(m_u["ee"])),
            (_read(m_l["oo"], ru["eo"] @ du["ee"]) + _read(m_u["oo"], dl["oe"] @ ru["ee"]), _read(m_u["oo"], du["oe"])),
        ),
    ]

    # From node to node.
    between = {(place, place): g[place] for place in PLACES} | {
        ("oe", "ee"): _meet(m_l["oe"], s_r["ee"]),
        ("eo", "ee"): _meet(m_u["eo"], s_d["ee"]),
        ("oo", "oe"): _meet(m_u["oo"], s_d["oe"]),
        ("oo", "eo"): _meet(m_l["oo"], s_r["eo"]),
        ("oo", "ee"): _meet(_read(m_u["oo"], dl["oe"]), s_r["ee"]) + _meet(_read(m_l["oo"], ru["eo"]), s_d["ee"]),
    }
    return transitions, sources, marks, _pairs(between, torch.zeros_like(g["ee"]))


def _four(x: Tensor, first: int, second: int) -> dict[str, Tensor]:
    """Every second cell along two axes, by place."""
    result = {}
    for place in PLACES:
        index = [slice(None)] * x.dim()
        index[first], index[second] = (slice("eo".index(parity), None, 2) for parity in place)
        result[place] = x[tuple(index)]
    return result


def _send(t: Tensor, s: Tensor) -> Tensor:
    return torch.einsum("nxyab,nxwyzb->nxwyza", t, s)


def _read(m: Tensor, t: Tensor) -> Tensor:
    return torch.einsum("nxwyza,nxyab->nxwyzb", m, t)


def _meet(m: Tensor, s: Tensor) -> Tensor:
    return torch.einsum("nxwyza,nxuyta->nxwuyzt", m, s)


def _blocks(first: Tensor, second: Tensor | None, third: Tensor, fourth: Tensor) -> Tensor:
    """A matrix of two by two blocks, the edges of a side being those of the first half, then of the second."""
    second = torch.zeros_like(first) if second is None else second
    return torch.cat([torch.cat([first, second], -1), torch.cat([third, fourth], -1)], -2)


def _nodes(*edges: tuple[Tensor, Tensor]) -> Tensor:
    """Halves of the edges [n, X, w, Y, z, a] side by side, and the nodes of four cells in place."""
    ee, oe, eo, oo = (torch.cat(halves, -1) for halves in edges)
    return torch.cat([torch.cat([ee, eo], 4), torch.cat([oe, oo], 4)], 2)


def _pairs(between: dict[tuple[str, str], Tensor], zero: Tensor) -> Tensor:
    """G of the merged cells from that between their parts."""
    rows = []
    for w in "eo":
        columns = []
        for u in "eo":
            parts = [torch.cat([between.get((w + z, u + t), zero) for t in "eo"], 6) for z in "eo"]
            columns.append(torch.cat(parts, 5))
        rows.append(torch.cat(columns, 3))
    return torch.cat(rows, 2)
