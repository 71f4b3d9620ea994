"""Makes the helpers of this folder importable under importlib import mode, in processes that tests start as well."""

import os
import sys
from pathlib import Path

FOLDER = str(Path(__file__).parent)
sys.path.insert(0, FOLDER)
# PYTHONSAFEPATH keeps a script's own folder off the path.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [FOLDER, os.environ.get("PYTHONPATH")]))
