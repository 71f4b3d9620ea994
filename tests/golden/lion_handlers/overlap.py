"""Rotated overlap and the forms of non-maximum suppression."""

from golden_vector import GoldenVector

from visionseq.geometry import bev_iou, iou3d, multi_class_nms, nms

OFFICIAL = 1e-2  # of the official single precision routine, which counts corners within 1 cm as inside


def check_rotated_nms(vector: GoldenVector) -> None:
    _check_overlap(vector)
    boxes, scores, labels = (vector[f"in/{name}"] for name in ("boxes", "scores", "labels"))
    for threshold in vector.names("out/nms_gpu_"):
        vector.equal(f"out/nms_gpu_{threshold}", nms(boxes, scores, float(threshold)))
    for name in vector.names("out/class_agnostic_"):
        options = vector.config["class_agnostic"][name]
        rows = (scores >= options["score"]).nonzero()[:, 0]
        kept = nms(boxes[rows], scores[rows], options["iou"], pre=options["pre"], post=options["post"])
        vector.equal(f"out/class_agnostic_{name}", rows[kept])
    for name in vector.names("out/multi_class_"):
        options = vector.config["multi_class"][name]
        limits = options["thr"], options["pre"], options["post"]
        vector.equal(f"out/multi_class_{name}", multi_class_nms(boxes, scores, labels, *limits, swap_dims=True))


def _check_overlap(vector: GoldenVector) -> None:
    boxes = vector["in/boxes"].double()
    swapped = boxes[:, [0, 1, 2, 4, 3, 5, 6]]
    rows, columns = vector["out/iou3d_matrix_official"].shape
    pairs = len(vector["out/iou3d_aligned_official"])
    for name, overlaps, tolerance in (
        ("iou_bev_exact", bev_iou(boxes, boxes), 1e-6),
        ("iou_bev_exact_swapped", bev_iou(swapped, swapped), 1e-6),
        ("iou_bev_official", bev_iou(boxes, boxes), OFFICIAL),
        ("iou3d_matrix_official", iou3d(boxes[:rows], boxes[rows : rows + columns]), OFFICIAL),
        ("iou3d_aligned_official", iou3d(boxes[:pairs], boxes[pairs : 2 * pairs], aligned=True), OFFICIAL),
    ):
        vector.close(f"out/{name}", overlaps, tolerance)


HANDLERS = {"rotated_nms": check_rotated_nms}
