"""Generation of reflow pairs: what they are, that a restart changes nothing, and the data module that makes its own."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from visionseq.data import Digits
from visionseq.data.images import MemoryImages
from visionseq.data.pairs import PairShards, PairZip, noise_from_record, open_pair_writer, open_pairs
from visionseq.errors import ConfigError, DataError
from visionseq.optim.factory import OptimizerConfig
from visionseq.pixels import to_uint8
from visionseq.rectified_flow import pair_generation
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.rectified_flow.pair_generation import (
    DrawnPairs,
    InvertedPairs,
    PairRecipe,
    decode,
    fingerprint,
    load_teacher,
    write_pairs,
)
from visionseq.rectified_flow.pairs import ReflowPairs
from visionseq.rectified_flow.sampling import sample
from visionseq.rectified_flow.task import ReflowTask
from visionseq.rectified_flow.teacher import edm_sample

SHORT = PairRecipe(steps=3, seed=7)


def network(label_dim=0, seed=0):
    torch.manual_seed(seed)
    return build_network({"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1, "label_dim": label_dim})


@pytest.fixture(scope="module")
def teacher():
    return EDMDenoiser(network()).eval()


@pytest.fixture(autouse=True)
def small_writes(monkeypatch):
    monkeypatch.setattr(pair_generation, "PAIRS_PER_WRITE", 8)


def write(folder, source, layout="shards", batch_size=4):
    with open_pair_writer(folder, layout, {}, source.recipe) as writer:
        return write_pairs(source, writer, batch_size)


def contents(folder):
    pairs = open_pairs(folder)
    return pairs.batch(np.arange(len(pairs)))


def assert_same(a, b):
    assert a.image.equal(b.image)
    assert a.noise.equal(b.noise)
    assert (a.label is None and b.label is None) or a.label.equal(b.label)


class Interrupted(Exception):
    pass


class Failing(DrawnPairs):
    """Stops after a number of batches, as a kill would."""

    def __init__(self, *arguments, batches):
        super().__init__(*arguments)
        self.batches = batches

    def rows(self, start, count):
        self.batches -= 1
        if self.batches < 0:
            raise Interrupted
        return super().rows(start, count)


def test_pairs_are_the_teachers_images_of_the_official_noise_stream(tmp_path, teacher):
    write(tmp_path, DrawnPairs(teacher, 10, SHORT), "zip")
    found = contents(tmp_path)
    generator = np.random.default_rng(7)
    noise = torch.from_numpy(np.stack([generator.standard_normal((1, 8, 8)).astype(np.float32) for _ in range(10)]))
    assert found.noise.equal(noise)
    expected = to_uint8(edm_sample(teacher, noise, 3).x)
    pixels = ((found.image * 0.5 + 0.5) * 255).round().to(torch.uint8)
    assert (pixels.int() - expected.int()).abs().max() <= 1  # another batch size rounds in another way
    assert found.label is None
    assert isinstance(open_pairs(tmp_path), PairZip)


def test_both_layouts_hold_the_same(tmp_path, teacher):
    for layout in ("zip", "shards"):
        write(tmp_path / layout, DrawnPairs(teacher, 21, SHORT), layout)
    assert isinstance(open_pairs(tmp_path / "shards"), PairShards)
    assert_same(contents(tmp_path / "zip"), contents(tmp_path / "shards"))


def test_records_give_the_noise(teacher):
    rows = DrawnPairs(teacher, 5, SHORT).rows(0, 5)
    assert all(noise_from_record(r, (1, 8, 8)).equal(z) for r, z in zip(rows.records, rows.noise, strict=True))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_and_classes_do_not_depend_on_the_order_of_the_pieces(pieces):
    source = DrawnPairs(EDMDenoiser(network(label_dim=5)).eval(), 40, SHORT)
    whole = DrawnPairs(source.teacher, 40, SHORT).rows(0, 40)
    for start, count in pieces:
        rows = source.rows(start, count)
        assert rows.noise.equal(whole.noise[start : start + count])
        assert rows.label.equal(whole.label[start : start + count])


@pytest.mark.parametrize("layout", ["shards", "zip"])
@pytest.mark.parametrize("batches", [0, 1, 2, 3, 5])
def test_interrupted_generation_ends_with_the_same_pairs(tmp_path, teacher, layout, batches):
    write(tmp_path / "whole", DrawnPairs(teacher, 21, SHORT), layout)
    with pytest.raises(Interrupted):
        write(tmp_path / "cut", Failing(teacher, 21, SHORT, batches=batches), layout)
    assert write(tmp_path / "cut", DrawnPairs(teacher, 21, SHORT), layout) == 21 - batches // 2 * 8
    assert_same(contents(tmp_path / "cut"), contents(tmp_path / "whole"))
    assert write(tmp_path / "cut", DrawnPairs(teacher, 21, SHORT), layout) == 0


def test_more_pairs_continue_the_same_stream(tmp_path, teacher):
    write(tmp_path / "whole", DrawnPairs(teacher, 30, SHORT))
    for num_pairs in (5, 18, 30):
        write(tmp_path / "grown", DrawnPairs(teacher, num_pairs, SHORT))
    assert_same(contents(tmp_path / "grown"), contents(tmp_path / "whole"))


def test_a_folder_never_mixes_recipes(tmp_path, teacher):
    write(tmp_path, DrawnPairs(teacher, 5, SHORT))
    other_weights = EDMDenoiser(network(seed=1)).eval()
    for source in (
        DrawnPairs(teacher, 9, PairRecipe(steps=4, seed=7)),
        DrawnPairs(teacher, 9, PairRecipe(steps=3, seed=8)),
        DrawnPairs(other_weights, 9, SHORT),
        InvertedPairs(teacher, Digits(), SHORT),
    ):
        with pytest.raises(ConfigError, match="another recipe"):
            write(tmp_path, source)


def test_classes_are_uniform_and_reach_the_teacher(teacher):
    conditional = EDMDenoiser(network(label_dim=4)).eval()
    source = DrawnPairs(conditional, 3000, SHORT)
    rows = source.rows(0, 3000)
    counts = torch.bincount(rows.label, minlength=4)
    assert len(counts) == 4
    assert counts.min() > 650
    assert not rows.image.equal(to_uint8(decode(conditional, rows.noise, None, SHORT)))
    assert DrawnPairs(teacher, 5, SHORT).rows(0, 5).label is None


def test_velocity_makes_the_pairs_of_the_next_reflow():
    student = EDMVelocity(network()).eval()
    recipe = PairRecipe(steps=5, solver="heun")
    rows = DrawnPairs(student, 6, recipe).rows(0, 6)
    assert rows.image.equal(to_uint8(sample(student, rows.noise, 5, "heun", "default").x))
    with pytest.raises(ConfigError, match="odd number"):
        DrawnPairs(student, 6, PairRecipe(steps=4)).rows(0, 6)


def test_steps_that_suit_the_teacher():
    big = EDMDenoiser(build_network({"type": "ResidualMLP", "img_resolution": 64, "in_channels": 1, "hidden": 8}))
    assert PairRecipe().filled(EDMDenoiser(network())).steps == 18
    assert PairRecipe().filled(big).steps == 40
    assert PairRecipe().filled(EDMVelocity(network())).steps == 35
    assert PairRecipe(steps=7).filled(big).steps == 7


@pytest.mark.parametrize("kind", [EDMDenoiser, EDMVelocity])
def test_real_images_are_kept_and_their_noise_leads_back(tmp_path, kind):
    """The teacher is the exact denoiser of Gaussian data, which a zeroed network with EDM's preconditioning is."""
    teacher = kind(network()).eval()
    torch.nn.init.zeros_(teacher.model.output.weight)
    torch.nn.init.zeros_(teacher.model.output.bias)
    generator = torch.Generator().manual_seed(0)
    images = (torch.randn(20, 1, 8, 8, generator=generator) * 64 + 128).clamp(0, 255).to(torch.uint8)
    source = InvertedPairs(teacher, MemoryImages(images), PairRecipe(steps=101))
    write(tmp_path, source)
    found = contents(tmp_path)
    assert found.image.equal(MemoryImages(images).batch(np.arange(20)).image)
    assert found.noise.std().item() == pytest.approx(1, abs=0.05)
    back = decode(teacher, found.noise, None, PairRecipe(steps=101))
    assert (back - found.image).abs().max() < 0.02


def test_inverted_generation_can_be_interrupted_too(tmp_path, teacher):
    images = MemoryImages(Digits().images[:21])
    write(tmp_path / "whole", InvertedPairs(teacher, images, SHORT))
    with open_pair_writer(tmp_path / "cut", "shards", {}, InvertedPairs(teacher, images, SHORT).recipe) as writer:
        rows = InvertedPairs(teacher, images, SHORT).rows(8, 4)
        writer.write(8, rows.image[:2], rows.label, rows.noise[:2])
    write(tmp_path / "cut", InvertedPairs(teacher, images, SHORT))
    assert_same(contents(tmp_path / "cut"), contents(tmp_path / "whole"))


def test_images_that_do_not_fit_the_teacher_are_named(teacher):
    with pytest.raises(ConfigError, match=r"images of \(1, 4\).*makes \(1, 8\)"):
        InvertedPairs(teacher, MemoryImages(torch.zeros(2, 1, 4, 4)))
    conditional = EDMDenoiser(network(label_dim=5))
    with pytest.raises(ConfigError, match="no labels, the teacher is conditional on 5"):
        InvertedPairs(conditional, MemoryImages(torch.zeros(2, 1, 8, 8)))
    with pytest.raises(ConfigError, match="classes up to 9"):
        InvertedPairs(conditional, Digits())


def test_fingerprint_sees_weights_and_settings():
    same, other = EDMDenoiser(network()), EDMDenoiser(network(seed=1))
    assert fingerprint(same) == fingerprint(EDMDenoiser(network()))
    assert len({fingerprint(m) for m in (same, other, EDMVelocity(network()), EDMDenoiser(network(), 0.6))}) == 4


@pytest.fixture
def teacher_folder(tmp_path, teacher):
    teacher.preprocessing = Digits().preprocessing
    teacher.save_pretrained(tmp_path / "teacher")
    return str(tmp_path / "teacher")


def test_data_module_makes_its_pairs_once(tmp_path, teacher_folder, monkeypatch):
    monkeypatch.setenv("VISIONSEQ_CACHE", str(tmp_path / "cache"))
    data = ReflowPairs(teacher_folder, batch_size=6, num_pairs=21, steps=3, pair_seed=7, generation_batch_size=4)
    assert str(data.folder).startswith(str(tmp_path / "cache"))
    data.prepare_data()
    files = {path: path.stat().st_mtime_ns for path in data.folder.iterdir()}
    data.prepare_data()
    assert {path: path.stat().st_mtime_ns for path in data.folder.iterdir()} == files
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert len(batch) == 6
    drawn = DrawnPairs(load_teacher(teacher_folder), 21, SHORT).rows(0, 24)
    assert batch.noise.equal(drawn.noise[batch.index])
    assert data.preprocessing["class_names"] == [str(digit) for digit in range(10)]


def test_data_module_uses_the_asked_number_of_a_larger_folder(tmp_path, teacher_folder):
    options = {"batch_size": 4, "steps": 3, "path": str(tmp_path / "pairs")}
    ReflowPairs(teacher_folder, num_pairs=20, **options).prepare_data()
    small = ReflowPairs(teacher_folder, num_pairs=9, **options)
    small.prepare_data()
    assert len(small.dataset) == 20
    loader = small.train_dataloader()
    assert len(small.first(5)) == 5
    assert len(small.first(50)) == 9
    seen = {int(i) for batch, _ in zip(loader, range(9), strict=False) for i in batch.index}
    assert seen == set(range(9))


def test_pairs_are_compared_with_the_network_before_they_exist(tmp_path, teacher_folder):
    data = ReflowPairs(teacher_folder, batch_size=4, num_pairs=20, steps=3, path=str(tmp_path / "pairs"))
    ReflowTask(OptimizerConfig(lr=1e-3), loss="huber", init=teacher_folder).check_data(data)
    wide = {"type": "ResidualMLP", "img_resolution": 16, "in_channels": 1, "hidden": 8, "num_blocks": 1}
    with pytest.raises(ConfigError, match=r"images of 8x8 pixels.*16x16"):
        ReflowTask(OptimizerConfig(lr=1e-3), loss="huber", network=wide).check_data(data)
    assert not (tmp_path / "pairs").exists()
    with pytest.raises(DataError, match="not generated yet"):
        data.first(4)


def test_pairs_that_were_checked_half_way_are_seen_whole(tmp_path, teacher_folder):
    options = {"batch_size": 4, "steps": 3, "path": str(tmp_path / "pairs")}
    ReflowPairs(teacher_folder, num_pairs=9, **options).prepare_data()
    data = ReflowPairs(teacher_folder, num_pairs=20, **options)
    ReflowTask(OptimizerConfig(lr=1e-3), loss="huber", init=teacher_folder).check_data(data)
    data.prepare_data()
    data.setup("fit")
    assert len(data.first(50)) == 20


def test_data_module_inverts_real_images(tmp_path, teacher_folder):
    data = ReflowPairs(teacher_folder, batch_size=4, steps=3, path=str(tmp_path / "pairs"), images=Digits("test"))
    data.prepare_data()
    assert len(data.train_source()) == 359
    assert data.dataset.labels.equal(Digits("test").labels)


def test_a_model_that_makes_no_images_is_refused(tmp_path):
    from visionseq.metrics.features import FeatureCNN

    FeatureCNN(img_resolution=8).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="is a FeatureCNN, expected an EDMDenoiser or EDMVelocity"):
        load_teacher(str(tmp_path))
