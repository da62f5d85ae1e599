"""Where torch trains: on the processor, or on a CUDA device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiltcli.errors import UserError, with_suggestion

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")


def check_device(name: str) -> None:
    """Check a device that the user asks for; loads torch only for "cuda".

    Raises:
        UserError: if there is no such name, or no such device on this machine.

    """
    if name not in DEVICES:
        raise UserError(with_suggestion(f"--device: got {name}", name, DEVICES))
    if name == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UserError(
                f"--device: got cuda, but torch {torch.__version__} finds no CUDA device here; "
                "allowed: auto, cpu"
            )


def open_device(name: str) -> torch.device:
    """Device that a job is trained on; "auto" is a CUDA device where there is one."""
    import torch

    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    # The same numbers at every run, and float32 that is float32.
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda")
