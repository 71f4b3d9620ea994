"""The packages of visionseq: all folders of `visionseq/`, and three folders beside it that become parts of it."""

from setuptools import find_packages, setup

BESIDE = ("configs", "kernels", "model_zoo")  # `kernels` at the top level would hide a package of Hugging Face

setup(
    packages=[
        *find_packages(include=["visionseq", "visionseq.*"]),
        *(f"visionseq.{name}" for name in BESIDE),
        *(f"visionseq.kernels.{name}" for name in find_packages("kernels")),
    ]
)
