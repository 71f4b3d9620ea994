"""The matching loops of the KITTI evaluation, compiled: which detection is matched to which object, frame by frame.

Flags: 0 counts, 1 is ignored (it may be matched, without effect), -1 is not matched.

Legend: N detections and M objects of a frame; arrays of all frames lie one after the other.
"""

import numpy as np

from visionseq.kernels.compiled import exact

NONE = -1.0e7


@exact
def match_frame(overlap, gt_flag, dt_flag, score, gt_alpha, dt_alpha, stuff, least, threshold, second, assigned, hits):
    """Counts (tp, fp, fn) and the sum of similarities of one frame; scores of true positives are written to `hits`.

    `overlap` [N, M]; `stuff` [N] is the largest share of a detection in a region of no interest; `second`: the pass
    that counts at a threshold, else the one that collects scores.
    """
    # Each object takes one of the detections that are left.
    tp, fp, fn, similarity, written = 0, 0, 0, 0.0, 0
    assigned[: len(score)] = False
    for j in range(len(gt_flag)):
        if gt_flag[j] == -1:
            continue

        # The best scored detection, or in the second pass the one of largest overlap, those that count before ignored.
        best, best_score, best_overlap, ignored = -1, NONE, 0.0, False
        for i in range(len(score)):
            if dt_flag[i] == -1 or assigned[i] or (second and score[i] < threshold):
                continue
            o = overlap[i, j]
            if not o > least:
                continue
            if not second:
                if score[i] > best_score:
                    best, best_score = i, score[i]
            elif dt_flag[i] == 0 and (o > best_overlap or ignored):
                best, best_overlap, ignored = i, o, False
            elif dt_flag[i] == 1 and best == -1:
                best, ignored = i, True

        # What the match counts as.
        if best == -1:
            if gt_flag[j] == 0:
                fn += 1
            continue
        assigned[best] = True
        if gt_flag[j] == 1 or dt_flag[best] == 1:
            continue
        tp += 1
        hits[written] = score[best]
        written += 1
        similarity += (1.0 + np.cos(gt_alpha[j] - dt_alpha[best])) / 2.0

    # Detections that are left over.
    if second:
        for i in range(len(score)):
            if dt_flag[i] == 0 and not assigned[i] and score[i] >= threshold and not stuff[i] > least:
                fp += 1
        if tp + fp == 0:
            similarity = 0.0
    return tp, fp, fn, similarity


@exact
def true_scores(overlaps, at, gt_at, dt_at, gt_flag, dt_flag, score, gt_alpha, dt_alpha, stuff, least):
    """Scores of the true positives of all frames, and the number of objects that count."""
    hits, valid, written = np.empty(len(gt_flag)), 0, 0
    assigned, hits_of_frame = np.zeros(len(score) + 1, np.bool_), np.empty(len(gt_flag) + 1)
    for f in range(len(at) - 1):
        g, h, d, e = gt_at[f], gt_at[f + 1], dt_at[f], dt_at[f + 1]
        overlap = overlaps[at[f] : at[f + 1]].reshape(e - d, h - g)
        args = (gt_flag[g:h], dt_flag[d:e], score[d:e], gt_alpha[g:h], dt_alpha[d:e], stuff[d:e])
        tp, _, _, _ = match_frame(overlap, *args, least, 0.0, False, assigned, hits_of_frame)
        hits[written : written + tp] = hits_of_frame[:tp]
        written += tp
        for j in range(g, h):
            valid += gt_flag[j] == 0
    return hits[:written], valid


@exact
def counts_at(thresholds, overlaps, at, gt_at, dt_at, gt_flag, dt_flag, score, gt_alpha, dt_alpha, stuff, least):
    """[T, 3]: true positives, false positives and the sum of similarities of all frames at each threshold."""
    counts = np.zeros((len(thresholds), 3))
    assigned, hits_of_frame = np.zeros(len(score) + 1, np.bool_), np.empty(len(gt_flag) + 1)
    for f in range(len(at) - 1):
        g, h, d, e = gt_at[f], gt_at[f + 1], dt_at[f], dt_at[f + 1]
        overlap = overlaps[at[f] : at[f + 1]].reshape(e - d, h - g)
        args = (gt_flag[g:h], dt_flag[d:e], score[d:e], gt_alpha[g:h], dt_alpha[d:e], stuff[d:e])
        for t in range(len(thresholds)):
            tp, fp, _, similarity = match_frame(overlap, *args, least, thresholds[t], True, assigned, hits_of_frame)
            counts[t, 0] += tp
            counts[t, 1] += fp
            counts[t, 2] += similarity
    return counts
