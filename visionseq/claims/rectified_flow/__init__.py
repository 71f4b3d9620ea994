"""The claim of improved rectified flows: the ablation of arXiv 2405.20320 on digits and Fashion-MNIST."""
