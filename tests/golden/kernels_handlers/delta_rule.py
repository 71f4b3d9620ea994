"""delta_rule and delta_net against golden files: plain, gated, and the general form."""

from golden_vector import GoldenVector

from kernels_handlers.compare import check_operator, options_of
from visionseq.kernels.delta_rule import delta_net, delta_rule

ARGUMENTS = {name: name for name in ("q", "k", "v", "a", "b", "beta", "g", "initial_state")}


def check_delta_rule(vector: GoldenVector) -> None:
    function = delta_net if "in/beta" in vector else delta_rule
    check_operator(vector, function, ARGUMENTS, ["o", "final_state"], **options_of(vector, function))


HANDLERS = {"delta_rule": check_delta_rule}
