"""A frame of records that were made up, with no history and so no cache behind it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from qwex_jupyter.history import columns, frame
from qwex_jupyter.model.record import RunRecord


def of_records(records: Sequence[RunRecord]) -> pd.DataFrame:
    """These records as a frame, in their order."""
    builder = columns.Builder()
    builder.add([columns.row(record) for record in records])
    return frame.frame_of(builder.columns(), np.arange(len(records)), (), "")
