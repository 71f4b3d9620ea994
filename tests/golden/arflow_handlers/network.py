"""The whole network against vectors of the official implementation: one pass, image by image, and the loss."""

import torch
from golden_vector import GoldenVector

from arflow_handlers.models import network_of, parameter_gradients
from visionseq.arflow.convert import to_official
from visionseq.arflow.loss import noisy, sequence_losses, sorted_times


def check_state(vector: GoldenVector) -> None:
    for name, tensor in to_official(network_of(vector)).items():
        assert tensor.equal(vector.state[name]), name


def check_training_form(vector: GoldenVector) -> None:
    model, blocks = network_of(vector), {}
    for number, block in enumerate(model.blocks):
        block.register_forward_hook(lambda _, inputs, output, key=f"block_{number}": blocks.update({key: output[0]}))
    velocity, _ = model(vector["in/x"], vector["in/t"], vector["in/y"].long())
    vector.close_all("out/", {"v": velocity, **blocks}, 5e-5)


def check_stepwise(vector: GoldenVector) -> None:
    model, labels = network_of(vector), vector["in/y"].long()
    velocities, without_memory, memories = [], [], None
    for i in range(vector["in/x"].shape[1]):
        image = vector["in/x"][:, i : i + 1], vector["in/t"][:, i : i + 1], labels
        velocity, memories = model(*image, memories)
        velocities.append(velocity)
        without_memory.append(model(*image)[0])
        for layer, memory in enumerate(memories):
            vector.close(f"out/state_after_image_{i}_block_{layer}", memory, 5e-5)
    vector.close("out/v", torch.cat(velocities, 1), 5e-5)
    vector.close("out/v_without_memory", torch.cat(without_memory, 1), 5e-5)


def check_train_loss(vector: GoldenVector) -> None:
    model, predictions = network_of(vector), []
    model.register_forward_hook(lambda module, inputs, output: predictions.append(output[0]))
    data, noise, t_BS = vector["in/x1"], vector["in/x0"], sorted_times(vector["in/u"])
    labels = vector["in/y"].long().masked_fill(vector["in/drop"].bool(), model.null_label)
    losses_BS = sequence_losses(model, data, noise, t_BS, labels)
    vector.equal("out/t", t_BS)
    vector.close("out/xt", noisy(model, data, noise, t_BS), 1e-5)
    vector.close("out/ut", data - noise, 1e-5)
    vector.close("out/pred", predictions[0], 5e-5)
    vector.close("out/loss", losses_BS.mean(1), 1e-5)
    vector.close("out/loss_mean", losses_BS.mean(), 1e-5)

    losses_BS.mean().backward()
    for name, gradient in parameter_gradients(model).items():
        expected = vector.expected(f"grad/{name}")
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5), name


HANDLERS = {
    "tiny_state": check_state,
    "tiny_training_form": check_training_form,
    "tiny_stepwise": check_stepwise,
    "train_loss": check_train_loss,
}
