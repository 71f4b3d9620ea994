"""A room of about twenty lines, for tests: it learns one number and draws its noise times that number.

`FILES` are the room's own, `PLACES` the lines that it adds to files of the house: the four that CONTRIBUTING names.
"""

from pathlib import Path
from textwrap import dedent

FILES = {
    "visionseq/dummy/model.py": """
        import torch
        from visionseq.saving.pretrained import PretrainedModel

        class Dummy(PretrainedModel):
            room, sample_shape, label_dim = "dummy", (1, 8, 8), 0

            def __init__(self, start: float = 1.0):
                super().__init__()
                self.config, self.factor = {"start": start}, torch.nn.Parameter(torch.tensor([start]))

            def sample(self, noise, *, class_labels=None):
                return (noise * self.factor).clamp(-1, 1)
        """,
    "visionseq/dummy/task.py": """
        import torch
        from lightning import LightningModule
        from visionseq.dummy.model import Dummy

        class DummyTask(LightningModule):
            def __init__(self, start: float = 1.0):
                super().__init__()
                self.model = Dummy(start)

            def training_step(self, batch, number):
                return (self.model.factor - batch.image.std()).square().sum()

            def validation_step(self, batch, number):
                self.log("val/loss", self.training_step(batch, number), batch_size=len(batch))

            test_step = validation_step

            def predict_step(self, batch, number):
                return self.model.sample(torch.ones_like(batch.image))

            def configure_optimizers(self):
                return torch.optim.SGD(self.model.parameters(), 0.1)
        """,
    "visionseq/dummy/convert.py": """
        from visionseq.dummy.model import Dummy
        from visionseq.saving.weights import load_state

        LICENCE = ("mit", "A dummy.")

        def build(config):
            return Dummy(**config)

        def from_official(state, config):
            model = build(config)
            load_state(model, {"factor": unwrap(state)["official_factor"]}, "the official state")
            return model

        def to_official(model):
            return {"official_factor": model.factor.detach().cpu().clone()}

        def official_config(model):
            return dict(model.config)

        def presets():
            return {"one": {"start": 1.0}}

        def preprocessing_of(model):
            return {"kind": "image", "size": 8, "channels": 1, "class_names": []}

        def unwrap(content):
            return content.get("network", content)
        """,
    "visionseq/dummy/__init__.py": """
        from visionseq.dummy.model import Dummy
        from visionseq.dummy.task import DummyTask

        LOADABLE = ("Dummy",)
        """,
    "visionseq/dummy/README.md": """
        visionseq fit --config configs/dummy/tiny.yaml
        visionseq sample runs/tiny --out out/
        """,
    "configs/dummy/tiny.yaml": """
        model: {class_path: visionseq.dummy.DummyTask}
        data:
          class_path: visionseq.data.ImageData
          init_args:
            dataset: &digits {class_path: visionseq.data.Digits}
            eval_dataset: *digits
            batch_size: 8
            limit: 32
        trainer: {max_steps: 3, accelerator: cpu}
        """,
    "visionseq/claims/dummy/__init__.py": """
        from visionseq.claims import Outcome

        DATA = ("digits",)

        def run(data, out, work, seeds, progress):
            return Outcome({"a dummy has a claim": True}, out / "dummy.md", [("row", data)])
        """,
    "visionseq/benchmarks/dummy/__init__.py": """
        def sections():
            return {"nothing": lambda device, rounds: {"ratio": float(rounds)}}
        """,
    "docs/rooms/dummy.md": """
        # A dummy
        """,
}
PLACES = {
    "visionseq/zoo/table.py": ('ROOMS = ("', 'ROOMS = ("dummy", "'),
    "README.md": ("| room | paper | what it does | status |\n|---|---|---|---|\n", "| `dummy` | | | |\n"),
    "CHANGELOG.md": ("### Added\n", "- Room `dummy`.\n"),
}


def add_dummy_room(root: Path) -> None:
    """Write the room's own files into a checkout, and its lines into the places of the house."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(dedent(text).lstrip())
    for name, (before, added) in PLACES.items():
        text = (root / name).read_text()
        assert text.count(before) == 1, f"{name}: expected {before!r} once"
        (root / name).write_text(text.replace(before, added if name.endswith(".py") else before + added))
