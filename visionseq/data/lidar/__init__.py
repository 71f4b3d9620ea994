"""Lidar detection data: frames of point clouds with boxes, from recordings or from a simulated world."""
