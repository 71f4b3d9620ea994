"""Batch normalisation over rows whose number changes from batch to batch."""

import torch.nn.functional as F
from torch import Tensor, nn


class RowBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d on [N, C] that takes one row or none in training as well, and then uses the running statistics."""

    def forward(self, x_NC: Tensor) -> Tensor:
        if len(x_NC) == 0:
            return x_NC
        if self.training and len(x_NC) == 1:
            return F.batch_norm(x_NC, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x_NC)
