"""How to cite the paper and the tool."""

from __future__ import annotations

from html import escape

import tiltcli

PAPER = """@inproceedings{ruizgarcia2021tilting,
  title     = {Tilting the playing field: Dynamical loss functions for machine learning},
  author    = {Ruiz-Garcia, Miguel and Zhang, Ge and Schoenholz, Samuel S. and Liu, Andrea J.},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning},
  series    = {Proceedings of Machine Learning Research},
  volume    = {139},
  year      = {2021},
  eprint    = {2102.03793},
  archivePrefix = {arXiv}
}"""


def citations() -> str:
    """Return how to cite the paper and the tool."""
    tool = (
        "@software{tiltcli,\n"
        "  title   = {tiltcli: sweeps with dynamical loss functions},\n"
        "  author  = {{The tiltcli developers}},\n"
        f"  version = {{{tiltcli.__version__}}}\n}}"
    )
    return (
        "<p>The method is M. Ruiz-Garcia, G. Zhang, S. S. Schoenholz and A. J. Liu, "
        "<cite>Tilting the playing field: Dynamical loss functions for machine learning</cite>, "
        'ICML 2021, <a href="https://arxiv.org/abs/2102.03793">arXiv:2102.03793</a>. '
        "Cite it, and the tool with its version:</p>"
        f"<pre>{escape(PAPER)}</pre><pre>{escape(tool)}</pre>"
    )
