"""`python -m visionseq` is the console command `visionseq`."""

import sys

from visionseq.cli import main

sys.exit(main())
