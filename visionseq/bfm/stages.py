"""From the first stage to the second: the same network with an FRN."""

from visionseq.bfm.model import BFM, FRN
from visionseq.errors import ConfigError
from visionseq.saving.weights import load_state
from visionseq.zoo.loading import load_as


def with_frn(name_or_path: str, frn_depth: int) -> BFM:
    """A model of the first stage with a new FRN of `frn_depth` blocks, in train mode.

    Exactly the entries `frn_blocks.*` are new: any other difference raises `CheckpointError`. Raises `ConfigError` for
    a model that has an FRN already, or is none of this room.
    """
    first = load_as(BFM, name_or_path)
    if first.has_frn:
        raise ConfigError(
            f"init: {name_or_path} has an FRN already; a run of the second stage resumes with --ckpt_path"
        )
    second = BFM(**{**first.config, "finetune": True, "frn_depth": frn_depth})
    fresh = {name: tensor for name, tensor in second.state_dict().items() if name.startswith(FRN)}
    load_state(second, {**fresh, **first.state_dict()}, name_or_path)
    second.preprocessing = first.preprocessing
    return second.train()
