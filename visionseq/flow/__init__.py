"""What generative rooms share: distributions of time and the sampling pipeline."""
