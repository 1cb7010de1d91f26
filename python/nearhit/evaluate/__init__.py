"""How good the decisions are: evaluation on labelled pairs and streams, and fitting of the pair verifier.

`pairs` and `stream` measure policies side by side; `fit` trains or recalibrates a verifier; `data` reads the files.
"""

from __future__ import annotations
