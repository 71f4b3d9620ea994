"""Encoders, and data that have images beside their latents."""

import numpy as np
import pytest
import torch
from tiny import tiny_batch

from visionseq.bfm.data import LatentsWithImages
from visionseq.bfm.encoder import encoder_from, preprocess
from visionseq.bfm.task import BFMTask
from visionseq.data import Digits, ImageData
from visionseq.data.images import MemoryImages
from visionseq.data.seeding import GlobalDraw
from visionseq.errors import CheckpointError, ConfigError, DataError
from visionseq.optim.factory import OptimizerConfig
from visionseq.saving.weights import write_safetensors


def test_each_pixel_of_the_last_map_is_a_token():
    encoder = encoder_from("features-digits")
    images = Digits()[slice(3)]
    tokens = encoder(images)
    assert tokens.shape == (3, 16, 32)
    assert tokens[:, 6].equal(encoder.network.feature_maps(images)[-1][:, :, 1, 2])
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.train().network.training


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """A DINOv2 of two narrow blocks, and its weights under the published names."""
    timm = pytest.importorskip("timm")
    from visionseq.bfm import encoder

    create = timm.create_model

    def narrow(architecture, **options):
        assert architecture.endswith("dinov2")
        return create(architecture, depth=2, embed_dim=24, num_heads=2, **options)

    torch.manual_seed(0)
    network = create("vit_small_patch14_dinov2", depth=2, embed_dim=24, num_heads=2, num_classes=0)
    published = {name: torch.randn_like(tensor) * 0.05 for name, tensor in network.state_dict().items()}
    published["mask_token"] = torch.zeros(1, 24)
    file = tmp_path_factory.mktemp("dino") / "dinov2_vits14.safetensors"
    write_safetensors(file, published)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", narrow)
        yield encoder.encoder_from(f"dinov2-vit-s:{file}"), published, file


def test_dino_gives_its_normed_patch_tokens_row_by_row(dino):
    encoder, published, _ = dino
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    tokens = encoder(images)
    assert tokens.shape == (1, 256, 24)
    assert published["pos_embed"].shape[1] == 37 * 37 + 1  # resampled once to 16x16
    assert encoder.network.pos_embed.shape[1] == 16 * 16 + 1
    with torch.no_grad():
        whole = encoder.network.forward_features(preprocess(images / 2 + 0.5))
    assert tokens.equal(whole[:, 1:])  # without the class token


def test_files_that_are_no_dino_are_refused(dino, tmp_path):
    file = tmp_path / "other.safetensors"
    write_safetensors(file, {"a": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        encoder_from(f"dinov2-vit-s:{file}")
    with pytest.raises(ConfigError, match="expected dinov2-vit-b:FILE"):
        encoder_from("dinov2-vit-b")


def pair() -> tuple[MemoryImages, MemoryImages]:
    generator = torch.Generator().manual_seed(0)
    latents = MemoryImages(torch.randn(6, 4, 4, 4, generator=generator), torch.arange(6) % 3)
    return latents, MemoryImages(torch.rand(6, 1, 8, 8, generator=generator) * 2 - 1, torch.arange(6) % 3)


def test_an_encoder_sees_the_images_beside_the_latents():
    latents, images = pair()
    both = LatentsWithImages(latents, images)
    batch = both.batch(np.array([4, 1]))
    assert batch.image.equal(latents.images[[4, 1]])
    assert batch.pixels.equal(images.images[[4, 1]])
    sizes = {"context_size": 4, "patch_size": 1, "in_channels": 4, "hidden_size": 16, "num_heads": 2, "num_classes": 3}
    sizes |= {"segments": 2, "segment_depth": 1, "feature_alignment_depth": 1, "adaln_lora_dim": 4}
    task = BFMTask({**sizes, "dim_projection": 32, "projector_hidden": 8}, OptimizerConfig(lr=1e-3), "features-digits")
    task.check_data(ImageData(both, 2))
    assert task.loss(batch, GlobalDraw(0)).isfinite()
    moved = batch.to("cpu")
    assert moved.pixels.equal(batch.pixels)


def test_sets_that_do_not_belong_together_are_refused():
    latents, images = pair()
    shuffled = MemoryImages(images.images, torch.tensor([0, 1, 2, 0, 2, 1]))
    with pytest.raises(DataError, match="sample 4: the latent has label 1, the image 2"):
        LatentsWithImages(latents, shuffled)
    with pytest.raises(DataError, match="6 latents and 9 images"):
        LatentsWithImages(latents, MemoryImages(tiny_batch(9).image))
