"""Attention, block and embeddings against vectors of the official implementation."""

import torch
from golden_vector import GoldenVector
from torch import Tensor

from arflow_handlers.models import parameter_gradients
from visionseq.arflow.attention import HybridAttention
from visionseq.arflow.model import ARFlow, HybridBlock
from visionseq.nn.embeddings import sincos_positions, unpatchify


def check_attention_module(vector: GoldenVector) -> None:
    config = vector.config
    attention = HybridAttention(config["dim"], config["num_heads"])
    attention.load_state_dict(vector.state, strict=True)
    x, c = (vector[f"in/{name}"].clone().requires_grad_() for name in ("x", "c_tokens"))
    images = config["images"]
    x_BSND, c_BSND = (tensor.unflatten(1, (images, config["chunk_size"])) for tensor in (x, c))

    # All images in one call.
    o_BSND, memory = attention(x_BSND, c_BSND)
    vector.close("out/o", o_BSND.flatten(1, 2), 3e-5)
    vector.close("out/final_state", memory, 3e-5)
    (o_BSND.flatten(1, 2) * vector["in/cotangent"]).sum().backward()
    vector.close_all("grad/", {"x": x.grad, "c_tokens": c.grad, **parameter_gradients(attention)}, 2e-4)

    # One image a call.
    outputs, memory = [], None
    for i in range(images):
        o_B1ND, memory = attention(x_BSND[:, i : i + 1], c_BSND[:, i : i + 1], memory)
        outputs.append(o_B1ND)
    vector.close("out/o_stepwise", torch.cat(outputs, 1).flatten(1, 2), 3e-5)
    vector.close("out/final_state", memory, 3e-5)


def check_block(vector: GoldenVector) -> None:
    config = vector.config
    block = HybridBlock(config["dim"], config["num_heads"], config["mlp_ratio"])
    block.load_state_dict(vector.state, strict=True)
    x_BSND, c_BSD = (vector[f"in/{name}"].clone().requires_grad_() for name in ("x", "c"))

    # All images in one call.
    output, memory = block(x_BSND, c_BSD.unsqueeze(2))
    vector.close("out/x", output, 5e-5)
    vector.close("out/final_state", memory, 5e-5)
    (output * vector["in/cotangent"]).sum().backward()
    vector.close_all("grad/", {"x": x_BSND.grad, "c": c_BSD.grad, **parameter_gradients(block)}, 3e-4)

    # One image a call.
    outputs, memory = [], None
    for x_BND, c_BD in zip(x_BSND.unbind(1), c_BSD.unbind(1), strict=True):
        output, memory = block(x_BND[:, None], c_BD[:, None, None], memory)
        outputs.append(output)
    vector.close("out/x_stepwise", torch.cat(outputs, 1), 5e-5)


def check_embedders(vector: GoldenVector) -> None:
    model = ARFlow(**vector.config)
    assert not model.load_state_dict(vector.state, strict=False).unexpected_keys
    x, t, y, h, c = (vector[f"in/{name}"] for name in ("x", "t", "y", "h", "c"))

    patches = model.x_embedder(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    final = model.final_layer(h, c.unsqueeze(2))
    side = vector.config["input_size"]
    values: dict[str, Tensor] = {
        "patch_tokens": patches,
        "tokens_with_pos": patches + model.pos_embed,
        "t_freq": model.t_embedder.features(t),
        "t_emb": model.t_embedder(t),
        "y_emb": model.y_embedder(y.long()),
        "y_emb_dropped": model.y_embedder(y.long(), vector["in/drop"].bool()),
        "final_tokens": final,
        "unpatchified": unpatchify(
            final.flatten(0, 1), vector.config["patch_size"], (side, side), "channel last"
        ).unflatten(0, h.shape[:2]),
    }
    vector.close_all("out/", values, 1e-5)


def check_position_tables(vector: GoldenVector) -> None:
    tables = {f"pos_{dim}_{side}": sincos_positions((side, side), dim) for dim, side in vector.config["items"]}
    vector.close_all("out/", tables, 1e-6)


HANDLERS = {
    "attention_module": check_attention_module,
    "block": check_block,
    "embedders": check_embedders,
    "position_tables": check_position_tables,
}
