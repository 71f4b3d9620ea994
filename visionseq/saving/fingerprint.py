"""The identity of a model: its kind, its configuration and the bits of its weights."""

import hashlib
import json
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from visionseq.saving.pretrained import PretrainedModel


def fingerprint(model: "PretrainedModel") -> str:
    """Hexadecimal SHA-256 of a model's class, configuration and weights."""
    digest = hashlib.sha256(json.dumps([type(model).__name__, model.config], sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
