"""Pictures: pixels where they belong, labels that show, files that are PNG."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from visionseq import viz
from visionseq.errors import DataError


def test_floats_are_rounded_with_ties_upwards_and_clamped():
    x = torch.tensor([-2.0, -1.0, -1 + 1 / 255, 0.0, 0.5, 1.0, 7.0])
    assert viz.to_uint8(x).tolist() == [0, 0, 1, 128, 191, 255, 255]
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(viz.to_uint8(pixels), pixels)
    assert torch.equal(viz.to_uint8(pixels.float() / 127.5 - 1), pixels)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pictures_hold_the_pixels(channels, mode):
    images = torch.randint(0, 256, (3, channels, 5, 7), dtype=torch.uint8)
    pictures = viz.to_pil(images)
    assert [picture.mode for picture in pictures] == [mode] * 3
    assert pictures[0].size == (7, 5)
    found = np.asarray(pictures[2]).reshape(5, 7, channels)
    assert np.array_equal(found, images[2].permute(1, 2, 0).numpy())


def test_grid_places_every_tile():
    images = torch.arange(0, 250, 50, dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 8, 8)
    picture = np.asarray(viz.image_grid(images, columns=3, scale=2))
    assert picture.shape == (2 * 18 + 2, 3 * 18 + 2, 3)
    for index in range(5):
        row, column = divmod(index, 3)
        tile = picture[2 + row * 18 :, 2 + column * 18 :][:16, :16]
        assert (tile == index * 50).all()
    assert (picture[20:36, 38:54] == 255).all(), "no tile: paper"


def test_small_images_are_enlarged_without_blur():
    images = torch.randint(0, 2, (1, 1, 8, 8), dtype=torch.uint8) * 255
    picture = np.asarray(viz.image_grid(images))[2:66, 2:66, 0]
    assert np.array_equal(picture, np.kron(images[0, 0].numpy(), np.ones((8, 8), np.uint8)))
    assert viz.image_grid(torch.zeros(4, 3, 64, 64)).size == (2 * 66 + 2,) * 2


def test_labels_and_title_move_the_tiles_and_leave_ink():
    images = torch.ones(4, 1, 8, 8)
    plain = viz.image_grid(images, columns=2)
    labelled = viz.image_grid(images, columns=2, row_labels=["student, 1 step", "b"], title="digits")
    left, top = labelled.width - plain.width, labelled.height - plain.height
    assert left > 50
    assert top > 0
    pixels = np.asarray(labelled.convert("L"))
    assert pixels[:top].min() < 100, "title"
    for row in (0, 1):
        beside = pixels[top + row * 66 : top + (row + 1) * 66, :left]
        assert beside.min() < 100, f"label of row {row}"
    assert np.array_equal(np.asarray(labelled)[top:, left:], np.asarray(plain))


def test_rows_of_a_picture_have_one_shape():
    rows = {"real": torch.zeros(3, 1, 8, 8), "drawn": torch.full((3, 1, 8, 8), 200, dtype=torch.uint8)}
    assert viz.labelled_rows(rows).size[1] == 2 * 66 + 2
    with pytest.raises(DataError, match="one shape"):
        viz.labelled_rows({"a": torch.zeros(3, 1, 8, 8), "b": torch.zeros(2, 1, 8, 8)})


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (2, 4, 8, 8), (1, 8, 8)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(DataError, match="expected"):
        viz.image_grid(torch.zeros(shape))


def test_files_are_png(tmp_path):
    viz.save_png(viz.image_grid(torch.zeros(4, 3, 8, 8)), tmp_path / "new" / "grid.png")
    viz.line_plot(
        tmp_path / "lines.png",
        [1, 2, 5],
        {"teacher": [500, 400, 6], "student": [200, 48, 16]},
        title="distance",
        xlabel="NFE",
        ylabel="Frechet distance",
        log_x=True,
        log_y=True,
        x_ticks=[1, 2, 5],
    )
    viz.bar_plot(tmp_path / "bars.png", {"A": 1.0, "B": 2.5}, ylabel="straightness")
    for name in ("new/grid.png", "lines.png", "bars.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"
            assert len(np.unique(np.asarray(picture.convert("L")))) > 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bars.png", "lines.png", "new"]


def test_grids_need_no_matplotlib():
    code = "import sys, visionseq.viz as viz, torch; viz.image_grid(torch.zeros(1, 1, 8, 8), title='x')"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'matplotlib' not in sys.modules"], check=True, timeout=120)
