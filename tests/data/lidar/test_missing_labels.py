"""A label file that is missing and one that is empty are different things, in every reader of labels."""

import logging
import shutil

import numpy as np
import pytest
from small_sets import KINDS, WORLD

from visionseq.cli.console import run
from visionseq.data.lidar import Argoverse2, CustomFrames, Kitti, NuScenes, Waymo, argoverse2, waymo
from visionseq.data.lidar.opening import open_frames
from visionseq.data.lidar.preparation import PointPreparation
from visionseq.data.lidar.source import PointCloudSource, Training
from visionseq.errors import ConfigError, DataError

# Each reader: how it reads with a policy, and its first label file. ONCE has labels and frames in one file.
READERS = {
    "kitti": (lambda root, **policy: Kitti(root, fov_points_only=False, **policy), "training/label_2/000000.txt"),
    "waymo": (Waymo, "segment-1/labels.npz"),
    "custom": (lambda root, **policy: CustomFrames(root, (), **policy), "labels/000000.txt"),
    "argoverse2": (lambda root, **policy: Argoverse2(root, "", **policy), "log/annotations.feather"),
    "nuscenes": (lambda root, **policy: NuScenes(root, "v1.0-mini", **policy), "v1.0-mini/sample_annotation.json"),
}


@pytest.fixture(autouse=True)
def forget():
    for cached in (argoverse2.read_annotations, waymo.read_segment, waymo.read_origins):
        cached.cache_clear()


def without_labels(kind, root):
    """A set whose first label file is missing, and the path of that file."""
    KINDS[kind][0](root)
    path = root / READERS[kind][1]
    if kind == "nuscenes":
        path.write_text("[]")  # its tables belong together: without annotations this one is empty
    else:
        path.unlink()
    return path


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_label_file_is_refused_with_its_path(kind, tmp_path):
    path = without_labels(kind, tmp_path)
    with pytest.raises(DataError, match=f"^{path}: this .*missing_labels: report"):
        READERS[kind][0](str(tmp_path))


@pytest.mark.parametrize("kind", READERS)
def test_by_choice_it_is_counted_once_and_its_frames_have_no_labels(kind, tmp_path, caplog):
    path = without_labels(kind, tmp_path)
    with caplog.at_level(logging.WARNING):
        frames = READERS[kind][0](str(tmp_path), missing_labels="report")
        unlabelled = [frames.labels(i) for i in range(len(frames))]
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    assert unlabelled[0].boxes is None
    assert unlabelled[0].missing_labels == path
    assert (unlabelled[1].boxes is None) == (kind not in ("kitti", "custom"))  # the others have one file for both


@pytest.mark.parametrize("kind", READERS)
def test_an_unknown_policy_is_named(kind, tmp_path):
    without_labels(kind, tmp_path)
    with pytest.raises(ConfigError, match="missing_labels: 'ignore', expected refuse or report"):
        READERS[kind][0](str(tmp_path), missing_labels="ignore")


@pytest.mark.parametrize("kind", ["kitti", "custom"])
def test_an_empty_label_file_is_a_frame_without_objects(kind, tmp_path):
    path = without_labels(kind, tmp_path)
    path.write_text("\n \n")
    frame = READERS[kind][0](str(tmp_path)).labels(0)
    assert frame.boxes.shape == (0, 7)
    assert frame.names.shape == (0,)
    assert frame.missing_labels is None


@pytest.mark.parametrize("kind", READERS)
def test_inspect_names_what_is_missing(kind, tmp_path, capsys):
    path = without_labels(kind, tmp_path)
    assert run(["inspect", str(tmp_path)]) == 0
    assert f"without labels: {path} is missing" in capsys.readouterr().out


def test_a_folder_of_another_name_is_seen(tmp_path):
    """label/ for labels/: training ran, said nothing and learned nothing."""
    KINDS["custom"][0](tmp_path)
    shutil.move(tmp_path / "labels", tmp_path / "label")
    with pytest.raises(DataError, match=r"2 of 2 are missing; .* holds ImageSets, label, points"):
        CustomFrames(str(tmp_path), ["Car"])


def test_kitti_s_testing_frames_have_no_labels(tmp_path, caplog):
    KINDS["kitti"][0](tmp_path)
    (tmp_path / "training").rename(tmp_path / "testing")
    shutil.rmtree(tmp_path / "testing" / "label_2")
    assert Kitti(str(tmp_path), folder="testing").labels(0).boxes is None
    assert not caplog.records


def test_training_takes_no_frame_without_labels_for_an_empty_street(tmp_path):
    KINDS["custom"][0](tmp_path)
    (tmp_path / "labels" / "000000.txt").unlink()
    frames = CustomFrames(str(tmp_path), ["Car"], missing_labels="report")
    preparation = PointPreparation(frames.features, (-80, -80, -5, 80, 80, 5), ["Car", "Pedestrian", "Cyclist"])
    batch = PointCloudSource(frames, preparation, training=Training()).fetch(np.array([[0, 0], [0, 1]]))
    assert batch.frame_ids == [WORLD.frame_ids[1]] * 2
    (tmp_path / "labels" / "000001.txt").unlink()
    with pytest.raises(DataError, match=f"{tmp_path}/labels/00000[01].txt is missing"):
        PointCloudSource(frames, preparation, training=Training()).fetch(np.array([[0, 0]]))


def test_frames_that_are_opened_by_name_are_reported(tmp_path, caplog):
    path = without_labels("custom", tmp_path)
    assert open_frames(str(tmp_path)).labels(0).missing_labels == path
    assert "1 of 2 are missing" in caplog.text
