"""Embeddings against their equations, written out with numpy; patches and rotations by their properties."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionseq.errors import ConfigError
from visionseq.nn.embeddings import (
    FourierEmbedding,
    LabelEmbedding,
    PatchEmbedding,
    SinusoidalEmbedding,
    TimeEmbedding,
    patchify,
    rotary_angles,
    rotate_pairs,
    sincos_positions,
    unpatchify,
)


@pytest.mark.parametrize("endpoint", [False, True])
def test_sinusoids_have_geometric_frequencies(endpoint):
    t, half = np.array([0.0, 0.3, 7.0]), 8
    frequencies = 10000.0 ** (-np.arange(half) / (half - endpoint))
    expected = np.concatenate([np.cos(np.outer(t, frequencies)), np.sin(np.outer(t, frequencies))], 1)
    embedded = SinusoidalEmbedding(2 * half, endpoint)(torch.from_numpy(t).float())
    np.testing.assert_allclose(embedded, expected, atol=1e-6)


def test_fourier_features_are_those_of_the_stored_frequencies():
    embedding, t = FourierEmbedding(6, scale=2.0), torch.tensor([0.1, -3.0])
    angles = 2 * torch.pi * torch.outer(t, embedding.freqs)
    torch.testing.assert_close(embedding(t), torch.cat([angles.cos(), angles.sin()], 1))
    assert list(embedding.state_dict()) == ["freqs"]


def test_times_are_embedded_in_float32_under_autocast():
    torch.manual_seed(0)
    embedding, t = TimeEmbedding(8), torch.rand(4)
    expected = embedding(t)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(embedding(t), expected, atol=0, rtol=0)
    assert list(embedding.state_dict()) == ["mlp.0.weight", "mlp.0.bias", "mlp.2.weight", "mlp.2.bias"]


def test_labels_and_no_class():
    embedding = LabelEmbedding(5, 3, dropout=1.0)
    labels, null = torch.arange(5), torch.full((5,), 5)
    table = embedding.embedding_table.weight
    assert embedding.null_label == 5
    assert table.shape == (6, 3)
    torch.testing.assert_close(embedding(labels), table[null])  # a dropout of 1 in training
    torch.testing.assert_close(embedding.eval()(labels), table[:5])
    drop = torch.tensor([True, False, False, True, False])
    torch.testing.assert_close(embedding(labels, drop), table[torch.where(drop, null, labels)])
    torch.testing.assert_close(embedding.train()(labels, torch.zeros(5, dtype=torch.bool)), table[:5])


def test_the_share_of_dropped_labels():
    torch.manual_seed(0)
    embedding = LabelEmbedding(1, 1, dropout=0.25)
    dropped = embedding(torch.zeros(4000, dtype=torch.int64)) == embedding.embedding_table.weight[1]
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_a_table_without_the_row_of_no_class():
    assert LabelEmbedding(5, 3, null_row=False).embedding_table.weight.shape == (5, 3)
    with pytest.raises(ConfigError, match=r"dropout 0\.1 needs the row"):
        LabelEmbedding(5, 3, dropout=0.1, null_row=False)


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_patches_are_cut_and_put_together(channels, patch, rows, columns, last):
    order = "channel last" if last else "channel first"
    x = torch.arange(2 * channels * rows * columns * patch**2).view(2, channels, rows * patch, columns * patch)
    tokens = patchify(x, patch, order)
    row, column = rows - 1, columns - 1
    block = x[1, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
    assert torch.equal(tokens[1, row * columns + column], (block.permute(1, 2, 0) if last else block).flatten())
    assert torch.equal(unpatchify(tokens, patch, x.shape[-2:], order), x)


def test_the_patch_embedding_is_a_linear_map_of_patches():
    embedding, x = PatchEmbedding(2, 3, 5), torch.randn(2, 3, 4, 6)
    expected = patchify(x, 2) @ embedding.proj.weight.flatten(1).T + embedding.proj.bias
    torch.testing.assert_close(embedding(x), expected)


def test_images_that_do_not_divide_into_patches_are_refused():
    for call in (lambda x: patchify(x, 2), PatchEmbedding(2, 1, 4), lambda x: unpatchify(x[0], 2, (4, 5))):
        with pytest.raises(ConfigError, match="4 x 5 pixels, expected multiples of the patch size 2"):
            call(torch.zeros(1, 1, 4, 5))


def test_sincos_positions_encode_the_column_first():
    rows, columns, dim = 2, 3, 8
    table = sincos_positions((rows, columns), dim)
    omega = 10000.0 ** (-np.arange(dim // 4) / (dim // 4))
    for token in range(rows * columns):
        row, column = divmod(token, columns)
        parts = [np.sin(column * omega), np.cos(column * omega), np.sin(row * omega), np.cos(row * omega)]
        np.testing.assert_allclose(table[token], np.concatenate(parts), atol=1e-7)
    with pytest.raises(ConfigError, match="6 channels, expected a multiple of 4"):
        sincos_positions((2, 2), 6)


def test_rotary_angles_turn_half_of_the_pairs_with_the_row():
    angles = rotary_angles((3, 2), 8)
    frequencies = 10000.0 ** (-np.arange(2) / 2)
    for token in range(6):
        row, column = divmod(token, 2)
        np.testing.assert_allclose(angles[token], np.concatenate([row * frequencies, column * frequencies]), rtol=1e-6)
    with pytest.raises(ConfigError, match="6 channels in a head"):
        rotary_angles((2, 2), 6)


def test_rotated_products_depend_on_the_distance_alone():
    torch.manual_seed(0)
    angles = rotary_angles((5, 5), 8)
    q, k = (torch.randn(8).expand(25, 1, 8) for _ in range(2))
    products = (rotate_pairs(q, angles)[:, None] * rotate_pairs(k, angles)[None]).sum((-1, -2))

    def at(row: int, column: int, row_k: int, column_k: int) -> torch.Tensor:
        return products[5 * row + column, 5 * row_k + column_k]

    torch.testing.assert_close(at(0, 1, 2, 3), at(1, 0, 3, 2))
    torch.testing.assert_close(at(3, 4, 2, 1), at(4, 3, 3, 0))
    assert not torch.isclose(at(0, 1, 2, 3), at(0, 1, 3, 2))
