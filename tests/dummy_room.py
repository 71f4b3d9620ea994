"""A room of few lines, for tests: it learns one number and draws its noise times that number.

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

            def __init__(self, start=1.0):
                super().__init__()
                self.config, self.factor = {"start": start}, torch.nn.Parameter(torch.tensor([start]))

            def sample(self, noise, num_steps=1, *, class_labels=None):
                return (noise * self.factor).clamp(-1, 1)
        """,
    "visionseq/dummy/task.py": """
        from visionseq.dummy.model import Dummy
        from visionseq.flow.task import GenerativeTask
        from visionseq.optim.factory import OptimizerConfig

        class DummyTask(GenerativeTask):
            def __init__(self, optimizer: OptimizerConfig):
                super().__init__(Dummy(), optimizer)

            def loss(self, batch, draw):
                return (self.model.factor - batch.image.std()).square().sum()
        """,
    "visionseq/dummy/convert.py": """
        from visionseq.dummy.model import Dummy

        LICENCE = ("mit", "A dummy.")
        presets = lambda: {"one": {"start": 1.0}}
        build = lambda config: Dummy(**config)
        unwrap = lambda content: content.get("network", content)
        from_official = lambda state, config: Dummy(state["official_factor"].item())
        to_official = lambda model: {"official_factor": model.factor.detach().clone()}
        official_config = lambda model: dict(model.config)
        preprocessing_of = lambda model: {"kind": "image", "size": 8, "channels": 1, "class_names": []}
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
        model: {class_path: visionseq.dummy.DummyTask, init_args: {optimizer: {lr: 0.1}}}
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
